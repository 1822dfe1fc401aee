"""``python -m tests.conformance SUITE``: run libvirt's own test data and tell what fails."""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
from collections import Counter
from collections import defaultdict
from pathlib import Path
from types import FrameType

from tests.conformance import suite as suites
from tests.conformance.suite import Outcome

SECONDS_PER_CASE = 20


def _timed_out(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise TimeoutError(f"a case took longer than {SECONDS_PER_CASE} seconds")


def run(suite: suites.Suite, ids: list[str]) -> dict[str, Outcome]:
    """Return the outcome of each case."""
    before = signal.signal(signal.SIGALRM, _timed_out)
    outcomes = {}
    for case_id in ids:
        signal.alarm(SECONDS_PER_CASE)
        outcomes[case_id] = suite.run(case_id)
        signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    return outcomes


def as_json(name: str, outcomes: dict[str, Outcome]) -> str:
    """Return the machine-readable report."""
    passed = sum(outcome.ok for outcome in outcomes.values())
    report = {
        "suite": name,
        "passed": passed,
        "failed": len(outcomes) - passed,
        "cases": {
            case_id: {"ok": o.ok, "stage": o.stage, "detail": o.detail}
            for case_id, o in outcomes.items()
        },
    }
    return json.dumps(report, indent=1) + "\n"


def _kind(difference: str) -> str:
    """Return a difference without what is particular to one case."""
    text = re.sub(r"0x[0-9a-fA-F]+|\d+", "N", difference)
    text = re.sub(r"(?<==')[^']*/[^']*(?=')", "PATH", text)
    text = re.sub(r'"/[^"]*"', '"PATH"', text)
    return text[:160]


def summary(outcomes: dict[str, Outcome], count: int) -> str:
    """Return the most common differences: how many cases have each, and how many only that."""
    stages = Counter(o.stage for o in outcomes.values() if not o.ok)
    lines = ["stages: " + ", ".join(f"{name} {n}" for name, n in stages.most_common())]
    having: dict[str, list[str]] = defaultdict(list)
    alone: Counter[str] = Counter()
    for case_id, outcome in outcomes.items():
        kinds = {f"[{outcome.stage}] {_kind(text)}" for text in outcome.differences}
        for kind in kinds:
            having[kind].append(case_id)
        if len(kinds) == 1:
            alone[next(iter(kinds))] += 1
    lines.append("cases  alone  difference (example)")
    ranked = sorted(having, key=lambda kind: (-alone[kind], -len(having[kind])))
    by_cases = sorted(having, key=lambda kind: -len(having[kind]))
    for kind in dict.fromkeys(kind for pair in zip(by_cases, ranked, strict=True) for kind in pair):
        if len(lines) > count + 1:
            break
        lines.append(f"{len(having[kind]):5}  {alone[kind]:5}  {kind}  ({having[kind][0]})")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run one suite; the exit status says only whether the harness worked."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("suite", choices=suites.suite_names())
    parser.add_argument("--data", type=Path, metavar="DIR", help="where the cases are")
    parser.add_argument("--case", action="append", metavar="ID", help="run this case (repeatable)")
    parser.add_argument("--match", metavar="REGEX", help="run the cases whose id matches")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcome of each case")
    parser.add_argument(
        "--summary", type=int, nargs="?", const=40, metavar="N", help="group what is different"
    )
    parser.add_argument("--failed", action="store_true", help="list every failed case")
    parser.add_argument("--update-gaps", action="store_true", help="rewrite the list of known gaps")
    options = parser.parse_args(argv)
    try:
        suite = suites.open_suite(options.suite, options.data)
    except FileNotFoundError as error:
        parser.error(f"no data for {options.suite}: {error}")
    ids = options.case or [i for i in suite.cases if re.search(options.match or "", i)]
    unknown = [case_id for case_id in ids if case_id not in suite.cases]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}")

    outcomes = run(suite, ids)
    failed = [case_id for case_id, outcome in outcomes.items() if not outcome.ok]
    if options.json:
        options.json.write_text(as_json(options.suite, outcomes), "utf-8")
    if options.failed or options.case:
        for case_id in failed:
            print(f"FAILED {case_id} [{outcomes[case_id].stage}]\n{outcomes[case_id].detail}")
    if options.case:
        for case_id, outcome in outcomes.items():
            if outcome.ok and outcome.detail:
                print(f"passed {case_id}, beside it differs\n{outcome.detail}")
    if options.summary:
        print(summary(outcomes, options.summary))
    if options.update_gaps:
        suites.write_known_gaps(options.suite, failed)
    for line in suite.notes():
        print(line)
    print(f"{options.suite}: {len(outcomes) - len(failed)} passed, {len(failed)} failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
