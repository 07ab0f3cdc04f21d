"""What training does to the residual while the tangent features are frozen."""
