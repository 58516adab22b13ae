"""The judge against a local endpoint that answers, fails and stalls as scripted."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tasc.errors import DataError, ModelError, OptionError
from tasc.evals import Judge, JudgeItem, judge_outputs, judge_summary
from tasc.evals.judge import parse_scores

Answer = Callable[[dict[str, Any], int], tuple[int, dict[str, str], str]]


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that timed out is gone when its answer comes."""


class Endpoint:
    """What was asked, and how to answer: `answer(body, number)` gives status, headers and body."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.bodies.append(body)
                endpoint.headers.append(dict(self.headers))
                endpoint.paths.append(self.path)
                status, headers, content = endpoint.answer(body, len(endpoint.bodies))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content.encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = QuietServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], Endpoint]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    endpoints: list[Endpoint] = []

    def start(answer: Answer) -> Endpoint:
        endpoints.append(Endpoint(answer))
        return endpoints[-1]

    yield start
    for endpoint in endpoints:
        endpoint.close()


def said(text: str) -> tuple[int, dict[str, str], str]:
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


def candidates(body: dict[str, Any]) -> dict[str, str]:
    """Letter -> output, as the judge sees them."""
    return dict(re.findall(r"<<<CANDIDATE (\w)\n(.*?)\nCANDIDATE \w>>>", body["messages"][1]["content"], re.DOTALL))


def by_content(body: dict[str, Any], _: int) -> tuple[int, dict[str, str], str]:
    """Grades by what is written, never by the letter."""
    return said(json.dumps({letter: 4 if "good" in output else 2 for letter, output in candidates(body).items()}))


def items(n: int = 12) -> list[JudgeItem]:
    return [JudgeItem(f"p{row}", f"r{row}", {"tuned": f"good {row}", "base": f"bad {row}"}) for row in range(n)]


def judge_at(endpoint: Endpoint, **options: Any) -> Judge:
    defaults: dict[str, Any] = {"backoff_s": 0.001, "timeout_s": 5.0}
    return Judge(endpoint.url, "grader", **defaults | options)


def test_scores_follow_the_system_through_random_order(serve):
    endpoint = serve(by_content)
    verdicts = judge_outputs(items(), judge_at(endpoint))
    assert [verdict.scores for verdict in verdicts] == [{"tuned": 4, "base": 2}] * 12
    assert {tuple(verdict.order) for verdict in verdicts} == {("tuned", "base"), ("base", "tuned")}
    asked = [re.search(r"REQUEST\n(p\d+)\n", body["messages"][1]["content"])[1] for body in endpoint.bodies]  # type: ignore[index]
    assert sorted(asked) == sorted(item.prompt for item in items())
    for verdict, item in zip(verdicts, items(), strict=True):
        body = next(b for b in endpoint.bodies if f"\n{item.prompt}\n" in b["messages"][1]["content"])
        assert list(candidates(body).values()) == [item.outputs[name] for name in verdict.order]


def test_rows_are_asked_in_an_order_of_the_seed(serve):
    def order(seed: int) -> list[str]:
        endpoint = serve(by_content)
        judge_outputs(items(), judge_at(endpoint, seed=seed, concurrency=1))
        return [re.search(r"\n(p\d+)\n", body["messages"][1]["content"])[1] for body in endpoint.bodies]  # type: ignore[index]

    assert order(1) == order(1) != order(2)
    assert order(1) != [item.prompt for item in items()]


def test_what_is_sent(serve, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "secret")
    endpoint = serve(by_content)
    judge = judge_at(endpoint, api_key_env="JUDGE_KEY", seed=7, request={"top_p": 0.5, "max_tokens": None})
    judge_outputs(items(1), judge)
    body = endpoint.bodies[0]
    assert (body["model"], body["temperature"], body["seed"], body["top_p"]) == ("grader", 0, 7, 0.5)
    assert "max_tokens" not in body
    assert endpoint.paths == ["/v1/chat/completions"]
    assert endpoint.headers[0]["Authorization"] == "Bearer secret"
    assert "secret" not in json.dumps(body)


def test_no_key_no_header(serve):
    endpoint = serve(by_content)
    judge_outputs(items(1), judge_at(endpoint))
    assert "Authorization" not in endpoint.headers[0]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_retries(serve, status):
    def answer(body: dict[str, Any], number: int) -> tuple[int, dict[str, str], str]:
        return (status, {"Retry-After": "0.01"}, "later") if number < 3 else by_content(body, number)

    endpoint = serve(answer)
    assert judge_outputs(items(1), judge_at(endpoint))[0].scores == {"tuned": 4, "base": 2}
    assert len(endpoint.bodies) == 3


def test_retries_after_a_time_out(serve):
    stalled = threading.Event()

    def answer(body: dict[str, Any], number: int) -> tuple[int, dict[str, str], str]:
        if number == 1:
            stalled.wait(3)
        return by_content(body, number)

    endpoint = serve(answer)
    try:
        assert judge_outputs(items(1), judge_at(endpoint, timeout_s=0.3))[0].scores is not None
    finally:
        stalled.set()
    assert len(endpoint.bodies) >= 2


def test_retries_after_an_answer_that_is_none(serve):
    endpoint = serve(lambda body, number: (200, {}, "<html>") if number == 1 else by_content(body, number))
    assert judge_outputs(items(1), judge_at(endpoint))[0].scores is not None


def test_gives_up_after_all_attempts(serve):
    endpoint = serve(lambda body, number: (503, {}, "overloaded"))
    with pytest.raises(ModelError, match=r"no answer after 3 attempts, the last: HTTP 503: overloaded"):
        judge_outputs(items(1), judge_at(endpoint, attempts=3))
    assert len(endpoint.bodies) == 3


def test_a_refusal_is_not_retried(serve):
    endpoint = serve(lambda body, number: (401, {}, "bad key"))
    with pytest.raises(ModelError, match=r"HTTP 401: bad key; check the model name and key"):
        judge_outputs(items(1), judge_at(endpoint))
    assert len(endpoint.bodies) == 1


def test_nobody_listens(serve):
    endpoint = serve(by_content)
    judge = judge_at(endpoint, attempts=2)
    endpoint.close()
    with pytest.raises(ModelError, match="no answer after 2 attempts"):
        judge_outputs(items(1), judge)
    endpoint.close = lambda: None  # type: ignore[method-assign]


def test_unreadable_answers_are_counted(serve):
    def answer(body: dict[str, Any], number: int) -> tuple[int, dict[str, str], str]:
        return said("I would rather not.") if "p3" in body["messages"][1]["content"] else by_content(body, number)

    verdicts = judge_outputs(items(4), judge_at(serve(answer)))
    assert verdicts[3].scores is None
    assert verdicts[3].reply == "I would rather not."
    summary = judge_summary(verdicts)
    assert (summary["n"], summary["unreadable"]) == (4, 0.25)
    assert summary["scores"]["tuned"]["mean"] == 4.0
    assert summary["differences"]["tuned - base"]["value"] == 2.0


def test_interrupted_runs_go_on(serve, tmp_path):
    path = tmp_path / "out" / "verdicts.jsonl"
    failing = serve(lambda body, number: by_content(body, number) if number <= 5 else (400, {}, "stop"))
    judge = judge_at(failing, concurrency=1)
    with pytest.raises(ModelError):
        judge_outputs(items(), judge, path=path)
    kept = path.read_text().splitlines()
    assert len(kept) == 5
    path.write_text("\n".join(kept) + '\n{"key": "cut sho')  # killed while writing
    endpoint = serve(by_content)
    seen: list[int] = []
    verdicts = judge_outputs(items(), judge_at(endpoint), path=path, progress=seen.append)
    assert len(endpoint.bodies) == 7
    assert [verdict.scores for verdict in verdicts] == [{"tuned": 4, "base": 2}] * 12
    assert sum(seen) == 12
    assert len(path.read_text().splitlines()) == 12
    assert judge_outputs(items(), judge_at(endpoint), path=path) == verdicts
    assert len(endpoint.bodies) == 7, "nothing is asked twice"


def test_answers_under_way_are_kept_when_a_question_fails(serve, tmp_path):
    path = tmp_path / "verdicts.jsonl"
    others = threading.Event()

    def answer(body, number):
        if number == 1:
            others.wait(10)
            return 400, {}, "stop"
        if number == 4:
            others.set()
        return by_content(body, number)

    with pytest.raises(ModelError):
        judge_outputs(items(), judge_at(serve(answer), concurrency=4), path=path)
    assert len(path.read_text().splitlines()) >= 3


def test_an_answer_cut_within_a_character_is_kept(serve, tmp_path):
    path = tmp_path / "verdicts.jsonl"
    endpoint = serve(lambda body, number: said("\ud83d"))
    (verdict,) = judge_outputs(items(1), judge_at(endpoint), path=path)
    assert (verdict.scores, len(path.read_text().splitlines())) == (None, 1)


def test_another_question_is_asked_anew(serve, tmp_path):
    endpoint = serve(by_content)
    path = tmp_path / "verdicts.jsonl"
    judge_outputs(items(2), judge_at(endpoint), path=path)
    judge_outputs(items(2), judge_at(endpoint, seed=1), path=path)
    changed = [JudgeItem("p0", "another reference", items(1)[0].outputs)]
    judge_outputs(changed, judge_at(endpoint), path=path)
    assert len(endpoint.bodies) == 5


def test_equal_rows_are_asked_once(serve):
    endpoint = serve(by_content)
    verdicts = judge_outputs(items(1) * 3, judge_at(endpoint))
    assert len(endpoint.bodies) == 1
    assert len(verdicts) == 3


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        ('{"A": 1, "B": 4}', {"x": 1, "y": 4}),
        ('First {"A": 1}, then\n```json\n{"A": "3", "B": 2}\n```', {"x": 3, "y": 2}),
        ('{"B": 2, "A": 3, "C": 9}', {"x": 3, "y": 2}),
        ('{"A": 3.0, "B": 2}', {"x": 3, "y": 2}),
        ('{"A": 3.5, "B": 2}', None),
        ('{"A": 0, "B": 2}', None),
        ('{"A": true, "B": 2}', None),
        ('{"A": 3}', None),
        ('{"A": 3, "B": null}', None),
        ("A: 3, B: 2", None),
        ("{}", None),
        ("", None),
    ],
)
def test_parse_scores(reply, scores):
    assert parse_scores(reply, ["x", "y"]) == scores


def test_refusals(serve, tmp_path):
    judge = judge_at(serve(by_content))
    with pytest.raises(DataError, match="at least one row"):
        judge_outputs([], judge)
    with pytest.raises(DataError, match="row 1 has outputs of"):
        judge_outputs([JudgeItem("p", "r", {"a": ""}), JudgeItem("p", "r", {"b": ""})], judge)
    with pytest.raises(OptionError, match="http"):
        judge_outputs(items(1), Judge("file:///etc/passwd", "m"))
    (tmp_path / "other.jsonl").write_text('{"x": 1}\n')
    with pytest.raises(DataError, match=r"other\.jsonl line 1: not a verdict"):
        judge_outputs(items(1), judge, path=tmp_path / "other.jsonl")
