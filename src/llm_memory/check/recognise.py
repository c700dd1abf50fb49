"""Which known mistakes explain what came: step by step, the smallest set that does.

A missing guard (a `ValueError` that is asked for and does not come) is a mistake of its own. So a
first draft without guards is still recognised by what else it does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from llm_memory.check.limits import TookTooLong
from llm_memory.check.values import describe, difference

#: Sets of more than so many mistakes explain anything.
MOST = 3
#: A whole number up to this one comes by chance, too.
SMALL = 9
#: So many values of this kind do not all come by chance.
MANY = 3
#: What the line of code that is a guard begins with, where an outcome tells its line.
GUARD = ": raise ValueError"


@dataclass
class Explanation:
    """What is known of the wrong steps: mistakes, unguarded steps, and steps still unexplained.

    `evidence` are the wrong steps at which each mistake shows, by its name.
    """

    mistakes: list[dict]
    guards: list[dict]
    unguarded: list[int]
    rest: list[int]
    evidence: dict[str, list[int]]


def outcome_difference(want: dict, came: dict, step: dict | None = None) -> str | None:
    """Return a sentence on how one outcome differs from the one that is wanted, or None."""
    step = step or {}
    if "raises" in want:
        if came.get("raises") == want["raises"]:
            return None
        got = raised(came) if "raises" in came else describe(came["value"])
        return f"expected a {want['raises']}, came {got}"
    if "raises" in came:
        return f"expected {describe(want['value'])}, came {raised(came)}"
    found = difference(
        want["value"], came["value"], terms=step.get("terms"), dtype=step.get("dtype", False)
    )
    if found is None and want.get("changed") != came.get("changed"):
        changed = ", ".join(str(index + 1) for index in came.get("changed", []))
        return f"the call changed its argument {changed}; work on a copy"
    return found


def raised(came: dict) -> str:
    """Return an exception that came, with its message and the line of the learner's code."""
    where = f" (your code, {came['where']})" if came.get("where") else ""
    return f"{came['raises']}: {came['says']}{where}"


def wrong_steps(stored: dict, outcomes: list[dict]) -> list[int]:
    """Return the steps whose outcome is not the right one."""
    steps = zip(stored["right"], outcomes, stored["steps"], strict=True)
    return [i for i, (want, came, step) in enumerate(steps) if outcome_difference(want, came, step)]


def explain(stored: dict, outcomes: list[dict]) -> Explanation:
    """Return what explains the wrong steps of `outcomes`."""
    right, steps = stored["right"], stored["steps"]
    wrong = seen = set(wrong_steps(stored, outcomes))
    asked = {i for i in wrong if "raises" in right[i]}
    if elsewhere := [outcomes[i] for i in sorted(wrong - asked)]:
        # What goes wrong in every call says nothing of a guard.
        wrong = wrong - {i for i in asked if _repeats(outcomes[i], elsewhere)}
        asked &= wrong
    core, guards, half_guards = [], [], []
    for mistake in stored["mistakes"]:
        shown = {
            i
            for i, outcome in enumerate(mistake["outcomes"])
            if outcome_difference(right[i], outcome, steps[i])
        }
        if not shown:
            continue  # the steps that are run do not tell it
        computed = {i for i in shown if "raises" not in right[i]}
        if not computed:
            half_guards.append((mistake, shown))
        if not shown <= seen:
            continue  # it would show where the work is right
        if computed:
            core.append((mistake, computed))
        else:
            guards.append((mistake, shown))
    found = [
        (mistake, sorted(_explained(mistake, shown, outcomes, steps)))
        for mistake, shown in _smallest(
            core, wrong - asked, stored, outcomes, _spoilt(steps, asked)
        )
    ]
    found.sort(key=lambda item: item[1])  # what shows first is said first
    covered = {i for _, hit in found for i in hit}
    asked -= {i for i in asked for m, _ in found if _same(m["outcomes"][i], outcomes[i], steps[i])}
    told = _guards(guards, asked, outcomes, steps)
    left = asked - set().union(*(shown for _, shown in told))
    told += _only_ones(half_guards, left)
    evidence = {m["name"]: hit for m, hit in found}
    evidence |= {m["name"]: sorted(shown & asked) for m, shown in told}
    return Explanation(
        [mistake for mistake, _ in found],
        [mistake for mistake, _ in told],
        sorted(left - set().union(*(shown for _, shown in told))),
        sorted(i for i in wrong - covered if "raises" not in right[i]),
        evidence,
    )


def _only_ones(guards: list, left: set[int]) -> list:
    """Return the guards that alone can be missing at the steps in `left`.

    A library may refuse some of what a guard should have (`range` refuses a step of 0), so a guard
    may be missing though not all that it stands for goes wrong.
    """
    found: list[tuple[dict, set[int]]] = []
    for i in sorted(left):
        here = [(m, shown) for m, shown in guards if i in shown]
        if len({m["sentence"] for m, _ in here}) == 1 and all(
            m is not here[0][0] for m, _ in found
        ):
            found.append(here[0])
    return found


def _repeats(outcome: dict, others: list[dict]) -> bool:
    """Tell whether an outcome is the accident that other calls had, too."""
    if "raises" in outcome:
        if outcome["raises"] == TookTooLong.__name__:
            return True
        return any(_same_class(outcome, o) and _cause(outcome) == _cause(o) for o in others)
    value = outcome["value"]
    is_thing = value is None or (isinstance(value, dict) and "object" in value)
    return is_thing and any("value" in o and o["value"] == value for o in others)


def _explained(mistake: dict, shown: set[int], outcomes: list[dict], steps: list[dict]) -> set[int]:
    """Return the steps at which the mistake gives what came."""
    exact = {i for i in shown if _same(mistake["outcomes"][i], outcomes[i], steps[i])}
    if not any("value" in outcomes[i] or _has_message(mistake["outcomes"][i]) for i in exact):
        return set()
    if not any("value" in outcomes[i] for i in exact):
        return exact
    # Where a number proves the mistake, the wording of an exception that follows from it is free,
    # and what its own guard refuses may end in any accident in a draft that has none.
    also = {i for i in shown - exact if _follows(mistake["outcomes"][i], outcomes[i])}
    return exact | also


def _follows(known: dict, came: dict) -> bool:
    accident = "raises" in came and not _is_meant(came)
    return _same_class(known, came) or (_is_meant(known) and accident)


def _same(known: dict, came: dict, step: dict) -> bool:
    if "raises" in known or "raises" in came:
        if not _same_class(known, came):
            return False
        # Everyone words a guard of their own differently; a library's message is its cause.
        return (_is_meant(known) and _is_meant(came)) or _cause(known) == _cause(came)
    return outcome_difference(known, came, step) is None


def _is_meant(outcome: dict) -> bool:
    """Tell whether an exception is a guard: raised by a `raise ValueError` of the code itself."""
    return bool(outcome.get("meant")) or GUARD in outcome.get("where", "")


def _same_class(known: dict, came: dict) -> bool:
    return "raises" in known and known["raises"] == came.get("raises")


def _has_message(outcome: dict) -> bool:
    return bool(_cause(outcome))


def _cause(outcome: dict) -> str:
    """Return the message of an exception without its numbers, which differ from input to input.

    The number of an axis stays: it is a cause.
    """
    text = re.sub(r"(?<!dimension )(?<!dim )(?<!axis )\b\d+", "#", outcome.get("says", ""))
    return text.split("\n")[0][:120]


def _weight(explained: set[int], shown: set[int], telling: set[int]) -> tuple:
    return (len(explained) == len(shown), len(explained & telling), len(explained))


def _telling(value: Any, right: Any = None) -> bool:
    """Tell whether a value is one that hardly comes by chance: in the parts that are not right."""
    if isinstance(value, dict) and "tuple" in value:
        parts = right.get("tuple", []) if isinstance(right, dict) else []
        parts = parts if len(parts) == len(value["tuple"]) else [None] * len(value["tuple"])
        pairs = zip(value["tuple"], parts, strict=True)
        return any(_telling(item, wanted) for item, wanted in pairs if item != wanted)
    if isinstance(value, dict) and "float" in value:
        return value["float"] not in ("nan", "inf", "-inf", 0.0, 1.0)
    if isinstance(value, dict):
        numbers: Any = value.get("numpy", value.get("torch", []))
        return bool(numbers) and len(set(map(str, numbers))) > 1 and "nan" not in numbers
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) > SMALL
    return isinstance(value, list) and len(value) > 1


def _spoilt(steps: list[dict], asked: set[int]) -> set[int]:
    """Return the steps on an object that has been through a call which should have been refused."""
    found, spoilt = set(), False
    for i, step in enumerate(steps):
        spoilt = spoilt and step["step"] != "call"
        if spoilt:
            found.add(i)
        spoilt = spoilt or i in asked
    return found


def _smallest(
    core: list, wrong: set[int], stored: dict, outcomes: list[dict], spoilt: set[int]
) -> list:
    """Return the mistakes of the smallest set that accounts for every step in `wrong`.

    Where none does, those that account for most of them and are contradicted by none.
    """
    if not wrong:
        return []
    steps, right = stored["steps"], stored["right"]
    telling = {i for i in wrong if _telling(outcomes[i].get("value"), right[i].get("value"))}
    explains = [(m, shown, _explained(m, shown, outcomes, steps)) for m, shown in core]
    explains = [item for item in explains if item[2]]
    explains.sort(key=lambda item: _weight(item[2], item[1], telling), reverse=True)
    for size in range(1, MOST + 1):
        for chosen in combinations(explains[:12], size):
            if len({m["sentence"] for m, *_ in chosen}) < size:
                continue
            covered = set().union(*(hit for *_, hit in chosen))
            if covered == wrong and (size == 1 or all(_needed(item, chosen) for item in chosen)):
                return [(m, shown) for m, shown, _ in chosen]
    sure: list[tuple[dict, set[int]]] = []
    covered = set()
    for item in explains:
        mistake, shown, hit = item
        if len(sure) < MOST and hit - covered and _stands_alone(item, steps, telling, spoilt):
            sure.append((mistake, shown))
            covered |= hit | shown
    return sure


def _needed(item: tuple, chosen: tuple) -> bool:
    others = set().union(*(hit for other in chosen if other is not item for hit in [other[2]]))
    return bool(item[2] - others)


def _stands_alone(item: tuple, steps: list[dict], telling: set[int], spoilt: set[int]) -> bool:
    """Tell whether one mistake is sure although other steps are wrong, too.

    It explains all of what it would show; or all but the hard cases, where a draft may have a
    second mistake that hides it, but what a missing guard has spoilt, and but what a guard of its
    own refuses. Values that may come by chance count if they are many and there is no exception.
    """
    mistake, shown, explained = item
    refused = {i for i in shown if _is_meant(mistake["outcomes"][i])}
    shown = (shown - spoilt - refused) or shown
    if not telling & explained:
        return len(shown) >= MANY and shown <= explained
    plain = {i for i in shown if not steps[i].get("hard")}
    return (plain or shown) <= explained


def _guards(guards: list, asked: set[int], outcomes: list[dict], steps: list[dict]) -> list:
    """Return the missing guards that account for the steps where an error was asked for.

    The fewest that do: a draft without any guard lacks two, and not also a third that only moves
    one of them.
    """

    def exact(chosen: Iterable[Any]) -> int:
        return sum(
            any(
                i in shown and _same(m["outcomes"][i], outcomes[i], steps[i]) for m, shown in chosen
            )
            for i in asked
        )

    useful = [item for item in guards if item[1] & asked]
    most = set().union(*(shown for _, shown in useful)) & asked
    for size in range(1, len(useful) + 1):
        found = [
            chosen
            for chosen in combinations(useful, size)
            if asked & set().union(*(shown for _, shown in chosen)) == most
        ]
        if found:
            return list(max(found, key=exact))
    return []
