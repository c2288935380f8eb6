"""A run is done once, resumes after anything, and keeps to its own folder."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from energylens.core.errors import ArtifactRefused, BadInput, Interrupted, UnknownName
from energylens.core.lock import hold
from energylens.run.edges.store.folder import verify
from energylens.run.execute import default_folder, execute
from energylens.studies.study import STUDIES, run_key
from tests.run.faults import Fault, fail_at
from tests.run.toy import Toy

ROOT = Path(__file__).parents[2]


def run_record(path: Path) -> dict:
    return json.loads((path / "run.json").read_text())


def outcome(path: Path) -> dict[str, bytes]:
    """Everything a run found: all that must not depend on how often it was killed."""
    found = [path / "summary.json", *(path / "tables").iterdir(), *(path / "records").iterdir()]
    return {str(file.relative_to(path)): file.read_bytes() for file in found}


def toy(*words: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.run.toy", *words],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(process: subprocess.Popen, line: str) -> None:
    assert process.stdout is not None
    for said in process.stdout:
        if said.strip() == line:
            return
    raise AssertionError(f"ended without saying {line!r}: {process.stderr.read()}")


@pytest.fixture
def whole(tmp_path):
    execute("toy", Toy(), tmp_path / "whole")
    return tmp_path / "whole"


def test_a_run_leaves_what_it_promises(whole):
    record = run_record(whole)
    schema = json.loads(files("energylens").joinpath("results/schema/run.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(record)
    assert record["status"] == "done" and record["sittings"] == 1 and record["seeds"] == [0]
    assert record["key"] == run_key("toy", Toy()) and record["error"] is None
    assert record["inputs"] == {"text": {"sha256": "0" * 64}}
    assert record["seconds"] > 0 and 50 < record["peak_memory_mb"] < 64_000
    assert not (whole / "scratch").exists() and verify(whole) == []
    assert sorted(p.name for p in whole.iterdir() if p.name[0] != ".") == [
        "manifest.json", "parts", "records", "run.json", "summary.json", "tables",
    ]  # fmt: skip


def test_a_finished_run_is_not_done_again(whole):
    before = {
        p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file() and p.name != ".lock"
    }
    said = []
    result = execute("toy", Toy(), whole, say=said.append)
    assert not result.fresh and said == [] and result.summary.study == "toy"
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_killed_at_five_moments_it_resumes_to_the_same_bytes(tmp_path, whole):
    out = tmp_path / "killed"
    for sitting, part in enumerate([0, 1, 2, 3]):
        process = toy("run", "toy", "--out", str(out), TOY_PAUSE=str(part))
        wait_for(process, "paused")
        process.kill()
        _, _ = process.communicate()
        assert run_record(out)["status"] == "running"
        assert len(list((out / "parts").glob("part.*"))) == part
        assert run_record(out)["sittings"] == sitting + 1
    process = toy("run", "toy", "--out", str(out))
    time.sleep(0.7)  # the fifth falls anywhere: in an import, in a write, or after the end
    process.kill()
    process.communicate()
    process = toy("run", "toy", "--out", str(out))
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert "computing part.0" not in stdout and "computing part.2" not in stdout
    assert outcome(out) == outcome(whole)
    assert run_record(out)["status"] == "done" and verify(out) == []
    assert not list(out.rglob("*.tmp"))


def test_a_fault_at_any_step_of_a_run_leaves_it_readable_and_resumable(tmp_path):
    execute("toy", Toy(parts=1), tmp_path / "whole")
    k, done = 0, False
    while not done:
        k += 1
        out = tmp_path / str(k)
        with pytest.MonkeyPatch.context() as patch:
            fail_at(patch, k, Fault())
            try:
                execute("toy", Toy(parts=1), out)
                done = True
            except Fault:
                pass
        if (out / "run.json").exists() and run_record(out)["status"] == "done":
            assert verify(out) == [] and outcome(out) == outcome(tmp_path / "whole")
        execute("toy", Toy(parts=1), out)
        assert verify(out) == [] and outcome(out) == outcome(tmp_path / "whole")
    assert k > 30


def test_what_a_killed_writer_left_is_swept(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / ".table.0.parquet.77.tmp").write_bytes(b"half")
    (tmp_path / ".run.json.77.tmp").write_bytes(b"half")
    with pytest.raises(BadInput, match="holds files that are no run"):
        execute("toy", Toy(parts=1), tmp_path)  # no run.json: it may be anybody's
    (tmp_path / "tables" / ".table.0.parquet.77.tmp").rename(tmp_path / ".table.parquet.77.tmp")
    (tmp_path / "tables").rmdir()
    execute("toy", Toy(parts=1), tmp_path)
    assert not list(tmp_path.rglob(".*.tmp"))


def test_a_damaged_file_is_redone_alone(whole):
    before = outcome(whole)
    table = whole / "tables" / "table.2.parquet"
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 1
    table.write_bytes(data)
    said = []
    result = execute("toy", Toy(), whole, say=said.append)
    assert result.fresh and said == ["computing part.2"]
    assert outcome(whole) == before and run_record(whole)["sittings"] == 2


@pytest.mark.parametrize("file", ["summary.json", "manifest.json"])
def test_a_lost_summary_or_manifest_is_written_again(whole, file):
    before = outcome(whole)
    (whole / file).unlink()
    said = []
    execute("toy", Toy(), whole, say=said.append)
    assert said == [] and outcome(whole) == before and verify(whole) == []


def test_the_folder_of_another_study_is_refused(whole):
    record = {**run_record(whole), "study": "ndt-suite"}
    (whole / "run.json").write_text(json.dumps(record))
    with pytest.raises(BadInput, match="holds a run of ndt-suite, not of toy: choose another"):
        execute("toy", Toy(), whole)


def test_the_folder_of_other_options_is_refused_with_the_difference(whole):
    before = outcome(whole)
    with pytest.raises(BadInput, match=r"--parts 4 there, 5 asked; --scale 1.0 there, 2.0 asked"):
        execute("toy", Toy(parts=5, scale=2.0), whole)
    assert outcome(whole) == before


def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(BadInput, match="holds files that are no run"):
        execute("toy", Toy(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2, "study": "toy"}'])
def test_a_run_record_that_cannot_be_read_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ArtifactRefused, match="take another folder"):
        execute("toy", Toy(), tmp_path)


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is a file: --out takes a folder"):
        execute("toy", Toy(), tmp_path / "file")
    with pytest.raises(BadInput, match="cannot write in"):
        execute("toy", Toy(), Path("/proc/energylens"))


def test_an_unknown_study_gives_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'toy'"):
        execute("toyy", Toy())


def test_changed_inputs_are_not_mixed(tmp_path, monkeypatch):
    out = tmp_path / "run"
    with pytest.raises(RuntimeError):
        execute("toy", Toy(mode="fail"), out)
    monkeypatch.setenv("TOY_TEXT", "1" * 64)
    with pytest.raises(BadInput, match="begun with another text than it finds now"):
        execute("toy", Toy(mode="fail"), out)


def test_input_refused_at_the_start_leaves_nothing(tmp_path):
    for out in (tmp_path / "new", tmp_path / "old"):
        if out.name == "old":
            out.mkdir()  # the user's own empty folder stays
        with pytest.raises(BadInput, match="does not like"):
            execute("toy", Toy(mode="refuse"), out)
        assert out.exists() == (out.name == "old")
        execute("toy", Toy(parts=1), out)  # corrected, the same --out is free


def test_input_refused_later_keeps_what_was_found(tmp_path):
    with pytest.raises(RuntimeError):
        execute("toy", Toy(mode="fail"), tmp_path)
    record = run_record(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({**record, "key": None}))
    with pytest.raises(BadInput):
        execute("toy", Toy(mode="fail"), tmp_path)
    assert (tmp_path / "parts" / "part.0.json").exists() and (tmp_path / "run.json").exists()


def test_a_failure_is_on_record_and_the_run_resumes(tmp_path):
    with pytest.raises(RuntimeError):
        execute("toy", Toy(mode="fail"), tmp_path)
    record = run_record(tmp_path)
    assert record["status"] == "failed" and record["error"] == "RuntimeError: the toy broke"
    said = []
    with pytest.raises(RuntimeError):
        execute("toy", Toy(mode="fail"), tmp_path, say=said.append)
    assert said == [] and run_record(tmp_path)["sittings"] == 2
    assert run_record(tmp_path)["seconds"] >= record["seconds"]


def test_changed_versions_between_sittings_are_on_record(tmp_path):
    with pytest.raises(RuntimeError):
        execute("toy", Toy(mode="fail"), tmp_path)
    record = run_record(tmp_path)
    record["versions"]["torch"] = "1.0"
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(RuntimeError):
        execute("toy", Toy(mode="fail"), tmp_path)
    now = run_record(tmp_path)
    expected = f"torch changed from 1.0 to {now['versions']['torch']} at sitting 2"
    assert now["changes"] == [expected]


def test_two_in_one_folder_one_is_refused(tmp_path):
    first = toy("run", "toy", "--out", str(tmp_path), TOY_PAUSE="1")
    wait_for(first, "paused")
    with pytest.raises(BadInput, match=f"in use by process {first.pid}: wait for it"):
        execute("toy", Toy(), tmp_path)
    first.kill()
    first.communicate()
    assert execute("toy", Toy(), tmp_path).fresh


def test_the_lock_holds_within_a_process_too(tmp_path):
    with hold(tmp_path), pytest.raises(BadInput, match="in use"), hold(tmp_path):
        pass
    with hold(tmp_path):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_stops_and_resumes(tmp_path, number):
    process = toy("run", "toy", "--mode", "sleep", "--out", str(tmp_path))
    wait_for(process, "sleeping")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert stderr.splitlines()[-1] == "energylens: stopped; the same command resumes"
    assert "Traceback" not in stderr
    assert run_record(tmp_path)["error"] == "stopped; the same command resumes"
    assert len(list((tmp_path / "parts").glob("part.*"))) == 4


def test_handlers_are_as_they_were_after_a_run(tmp_path):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    execute("toy", Toy(parts=1), tmp_path)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_becomes_interrupted():
    from energylens.run.stop import stoppable

    with pytest.raises(Interrupted), stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


def test_the_default_folder_names_study_subject_and_key():
    options = Toy(subject="/models/My Model!/")
    folder = default_folder(STUDIES["toy"], options)
    assert folder == Path("runs") / f"toy-My-Model-{run_key('toy', options)[:8]}"


def test_equal_options_have_equal_keys_however_they_are_spelt(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    near, far = (Toy(text=(Path(p),)) for p in ("./a/../b.txt", str(tmp_path / "b.txt")))
    assert run_key("toy", near) == run_key("toy", far) != run_key("toy", Toy())
    assert run_key("toy", Toy()) != run_key("toi", Toy())
    assert run_key("toy", replace(Toy(), seed=1)) != run_key("toy", Toy())
