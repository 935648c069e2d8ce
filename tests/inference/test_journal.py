"""Records of a file that may have been cut off anywhere."""

import pytest

from defectloc.errors import DefectlocError
from defectloc.inference.journal import Journal, records

ROWS = ["path,n\n", "a.png,1\n", '"b\n""c"".png",2\n', "ü.png,3\n"]


@pytest.mark.parametrize("cut", range(len("".join(ROWS).encode()) + 1))
def test_a_file_cut_anywhere_has_its_whole_records(tmp_path, cut):
    path, content = tmp_path / "t.csv", "".join(ROWS).encode()
    path.write_bytes(content[:cut])
    found = list(records(path, quoted=True))
    ends = [len("".join(ROWS[: i + 1]).encode()) for i in range(len(ROWS))]
    assert found == [(row, end) for row, end in zip(ROWS, ends, strict=True) if end <= cut]


def test_lines_of_json_need_no_even_quotes(tmp_path):
    path = tmp_path / "t.jsonl"
    whole = '{"path": "a\\".png"}\n'
    path.write_text(whole + '{"path"')
    assert list(records(path, quoted=False)) == [(whole, len(whole))]


def test_a_journal_goes_on_where_the_whole_records_end(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text("whole\nto")
    with Journal(path, 6) as journal:
        journal.write("ä\n")
        # Nothing waits in this process.
        assert path.read_text(encoding="utf-8") == "whole\nä\n"
    with Journal(path) as journal:
        journal.write("anew\n")
    assert path.read_text() == "anew\n"


def test_a_journal_where_nothing_can_be_written(tmp_path):
    with pytest.raises(DefectlocError, match="cannot be written"):
        Journal(tmp_path / "nowhere" / "t.csv")
