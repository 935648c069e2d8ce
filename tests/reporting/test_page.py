"""Pages: nothing loaded from anywhere, a script that browsers accept, a key to know it by."""

import base64
import hashlib
import re

import pytest
from jinja2 import UndefinedError

from defectloc.reporting.page import key_of, render

INDEX = {
    "title": "runs",
    "introduction": "some <b>",
    "notes": [],
    "folds": [],
    "has_published": False,
    "rows": [],
    "columns": [],
    "table": [],
    "footer": "",
}


def test_the_script_is_the_one_that_the_page_allows():
    page = render("index.html", "key v1", "run.js", **INDEX)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    wanted = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{wanted}'" in page
    assert "default-src 'none'" in page
    assert "Nothing is computed here" in script


def test_text_is_escaped_and_what_is_missing_is_an_error():
    assert "some &lt;b&gt;" in render("index.html", "key", **INDEX)
    with pytest.raises(UndefinedError):
        render("index.html", "key", **{name: value for name, value in INDEX.items() if name != "notes"})


def test_a_page_is_known_by_its_key(tmp_path):
    path = tmp_path / "report.html"
    assert key_of(path) is None
    path.write_text(render("index.html", "fusion-12345678 v1", **INDEX), encoding="utf-8")
    assert key_of(path) == "fusion-12345678 v1"
    path.write_bytes(b"\xff\xfe another page")
    assert key_of(path) is None
