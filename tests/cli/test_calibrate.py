def test_an_unknown_suite_is_refused_with_those_that_there_are(cli):
    done = cli("calibrate", "--suite", "nulls")

    assert done.code == 2
    assert "'nulls'" in done.err
    assert "null, permutation, trained" in done.err


def test_the_tables_are_only_put_into_a_page_that_is_there(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    done = cli("calibrate", "--write-docs")

    assert done.code == 2
    assert "calibration.md" in done.err
