"""OpenML's own answers, as scikit-learn ships them for its tests, from a loopback server."""

from __future__ import annotations

import gzip
import re
from importlib import resources
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import sklearn.datasets._openml as client
import torch

from whichmin.data import load
from whichmin.errors import DataError

from .server import serving

#: The files that scikit-learn's tests are answered with, by the paths that are asked for.
ANSWERS = {
    "/api/v1/json/data/61": "api-v1-jd-61.json.gz",
    "/api/v1/json/data/features/61": "api-v1-jdf-61.json.gz",
    "/api/v1/json/data/qualities/61": "api-v1-jdq-61.json.gz",
}
TABLE = "data-v1-dl-61.arff.gz"


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Requests to openml.org end here."""
    monkeypatch.setenv("WHICHMIN_DATA", str(tmp_path))
    shipped = resources.files("sklearn.datasets.tests.data.openml.id_61")
    with serving() as server:

        def asked(request):
            url = request if isinstance(request, str) else request.full_url
            path = "/" + url.split("/", 3)[3]
            name = ANSWERS.get(path, TABLE)
            server.files[path] = gzip.decompress((shipped / name).read_bytes())
            return urlopen(server.address.rstrip("/") + path)

        monkeypatch.setattr(client, "urlopen", asked)
        yield server


def test_a_table_by_its_number(server):
    task = load("openml:61", n_train=90, n_test=60)
    assert task.X.shape == (90, 4)
    assert task.classes == ("Iris-setosa", "Iris-versicolor", "Iris-virginica")
    assert task.y.bincount().tolist() == [30, 30, 30]
    torch.testing.assert_close(task.X.mean(0), torch.zeros(4), rtol=0, atol=1e-5)
    assert task.prepared["data"] == "openml:61"
    asked = len(server.asked)
    again = load("openml:61", target="class", n_train=90, n_test=60)
    assert torch.equal(again.X, task.X)
    assert len(server.asked) == asked, "kept in the data folder"


def test_a_column_that_is_not_there(server):
    with pytest.raises(DataError, match=r"the frame has no column 'clas'; its columns are .*Did you mean 'class'\?"):
        load("openml:61", target="clas")


def test_no_network(monkeypatch, tmp_path):
    def unreachable(request):
        raise URLError("no network")

    monkeypatch.setenv("WHICHMIN_DATA", str(tmp_path))
    monkeypatch.setattr(client, "urlopen", unreachable)
    monkeypatch.setattr(client.time, "sleep", lambda _: None)
    said = rf"cannot fetch openml:61 .*no network.*It is kept in {re.escape(str(tmp_path))}"
    with pytest.raises(DataError, match=said):
        load("openml:61")


def test_no_number():
    with pytest.raises(DataError, match=r"expected the number of a data set of openml\.org, such as openml:61"):
        load("openml:iris")
