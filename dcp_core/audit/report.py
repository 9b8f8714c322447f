"""Write the report of an audit: one HTML file that works offline and prints, and the same numbers as JSON."""

import json
import re
from html import escape
from pathlib import Path

import psutil

from dcp_core.audit import svg, words
from dcp_core.audit.findings import CLOSE, Effect, Findings, findings
from dcp_core.audit.numbers import as_json
from dcp_core.audit.power_law import BEYOND
from dcp_core.audit.request import Request
from dcp_core.audit.session import plan
from dcp_core.data.datasets import DATASETS, pool_words
from dcp_core.defenses import DEFENSES
from dcp_core.files import write_atomic
from dcp_core.models.pretrained import installed
from dcp_core.plots.style import mark_of
from dcp_core.provenance import hardware_words, today
from dcp_core.runs import launch
from dcp_core.runs.spec import defense_command

PAGE, NUMBERS = "report.html", "report.json"
L1 = "Intervals of changes are paired by seed. l1: distance between true and sent probabilities, 0 (equal) to 2."
FIDELITY = "Fidelity: test pictures that clone and model put in the same class."
CSS = Path(__file__).with_name("report.css")


def write(request: Request, into: Path | None = None) -> Path:
    """Write `report.html` and `report.json` from the runs that are done, and return the path of the HTML file.

    Args:
        into: the folder; by default that of the audit.

    Raises:
        OSError: if a file cannot be written.
    """
    found = findings(request, plan(request))
    folder = into or request.folder
    text = json.dumps(as_json(found), indent=1, ensure_ascii=False, allow_nan=False)
    for name, content in ((NUMBERS, text + "\n"), (PAGE, as_html(found))):
        write_atomic(folder / name, lambda file, content=content: file.write(content.encode()))  # type: ignore[misc]
    return folder / PAGE


def as_html(found: Findings) -> str:
    """The report as one HTML file without scripts."""
    title = f"How well can {found.card.title} be stolen?"
    body = [_head(found, title), _verdict(found), _explained(found)]
    if found.series:
        body += [_curves(found), _prices(found)]
    if found.effects:
        body += [_defenses(found), _deploy(found)]
    body += [_limits(found), _method(found), _runs(found)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS.read_text('utf-8')}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _head(found: Findings, title: str) -> str:
    about = (
        f"{len(found.card.classes)} classes, {found.card.test_pictures:,} test pictures, {found.card.precision}"
    )
    return (
        f'<header><h1>{escape(title)}</h1><p class="sub">Model-stealing audit of <code>{escape(found.card.name)}</code> '
        f"({escape(about)}), {today()}</p></header>"
    )


def _verdict(found: Findings) -> str:
    text = " ".join(words.verdict(found))
    tiles = [
        (
            "The model's own error",
            f"{found.victim_error.mean:.1f} %",
            _between(found.victim_error, "test pictures"),
        )
    ]
    if found.bare is not None:
        error = words.estimate(found.bare)
        tiles.append(
            (
                f"The best clone's error after {int(found.bare['budget']):,} queries",
                f"{error.mean:.1f} %",
                _between(error, f"{error.seeds} seeds") or words.few_seeds(error.seeds),
            )
        )
    if found.prices:
        price = words.cheapest(found)
        cost = words.money(price, found.request.price)
        tiles.append(
            (
                f"Queries for a clone within {CLOSE:g} points",
                escape(re.split(r" \(|, ", words.queries(price), maxsplit=1)[0]),
                f"cost: {cost}, at {found.request.price:g} for 1,000 queries" if cost else "",
            )
        )
    shown = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{value}<small>{escape(more)}</small></dd></div>"
        for name, value, more in tiles
    )
    return (
        f'<section class="verdict" aria-label="Verdict"><strong>{escape(words.headline(found))}</strong>{escape(text)}'
        f'</section>\n<dl class="tiles">{shown}</dl>'
    )


def _between(error: words.Estimate, what: str) -> str:
    return "" if error.low is None else f"{error.low:.1f} to {error.high:.1f} (95 % interval, {what})"


def _explained(found: Findings) -> str:
    return (
        "<h2>What was tried</h2><p>A model behind an API gives each picture a probability for every class. A <b>thief</b> "
        "sends pictures (<b>queries</b>), stores the answers, and trains another network on them, the <b>clone</b>. The "
        "clone is tested on pictures that neither network has seen; its <b>error</b> is the share that it gets wrong. A "
        "<b>defense</b> changes the probabilities before they are sent. This makes the clone worse, and also costs honest "
        "customers something. This audit played the thief, with and without defenses, with growing numbers of queries. Each "
        "setting is repeated with several random starts (<b>seeds</b>), because chance plays a part in training; an "
        "<b>interval</b> says how far off a mean over few seeds may be.</p>"
    )


def _curves(found: Findings) -> str:
    shown = svg.shown(found)
    if max(len(each.points) for each in shown) < 2:
        return "<h2>More queries, better clone</h2><p>Only one number of queries was measured, so there is no curve yet.</p>"
    legend = "".join(
        f'<li><svg viewBox="0 0 14 14" aria-hidden="true">{svg.marker(7, 7, number)}</svg>{escape(each.name)}</li>'
        for number, each in enumerate(shown)
    )
    ends = "; ".join(
        f"{each.name}: from {next(iter(each.points.values())).mean:.1f} % to {list(each.points.values())[-1].mean:.1f} %"
        for each in shown
    )
    alt = f"Error of the clone over the number of queries. {ends}. The model itself: {found.victim_error.mean:.1f} %."
    drawn = [each.curve for each in shown if each.curve]
    caption = "Points: mean over the seeds, with the 95 % interval where there are two or more. "
    if drawn:
        caption += f"Lines: power law a + b·q^−c. Dashed: extrapolated, at most {BEYOND} times beyond the largest budget. "
        caption += (
            "Band: 95 % interval from the seeds. It does not cover that the true curve may have another form."
            if any(len(curve.draws) for curve in drawn)
            else "There is no band, because some budgets have one seed only: an indication, not evidence."
        )
    else:
        caption += f"No curve is drawn: {shown[0].why_no_curve}."
    rows = "".join(
        f"<tr><td>{escape(each.name)}</td><td>{budget:,}</td><td>{words.short(error)}</td><td>{error.seeds}</td>"
        f"<td>{escape(words.NAMES.get(each.best[budget], each.best[budget]))}</td></tr>"
        for each in found.series
        for budget, error in each.points.items()
    )
    return (
        f"<h2>More queries, better clone</h2><figure>{svg.learning_curves(found, alt)}"
        f'<ul class="legend">{legend}</ul><figcaption>{escape(caption)}</figcaption></figure>'
        f"<details><summary>The numbers</summary>"
        + _table(["setting", "queries", "error of the clone, % (95 % interval)", "seeds", "best thief"], rows)
        + "</details>"
    )


def _prices(found: Findings) -> str:
    price = found.request.price
    rows = "".join(
        f"<tr><td>{escape(each.name)}</td><td>{escape(words.queries(each))}</td>"
        + (f"<td>{escape(words.money(each, price))}</td>" if price is not None else "")
        + f"<td>{each.seeds}</td></tr>"
        for each in found.prices
    )
    names = (
        ["setting", "queries"]
        + ([f"cost, at {price:g} for 1,000 queries"] if price is not None else [])
        + ["seeds"]
    )
    few = words.few_seeds(min(each.seeds for each in found.prices))
    note = "" if price is not None else " With --price-per-1000, this table also has the cost in money."
    return (
        f"<h2>What a close clone costs the thief</h2><p>A clone is close if its error is at most {CLOSE:g} points above "
        f"the model's, that is at most {found.target:.1f} %. The thief's own computing time is not "
        f"counted.{escape(note)} "
        "<b>No defense</b>: the thief gets all probabilities. <b>Labels only</b>: the thief uses, or the API sends, only "
        "the name of the likeliest class. <b>Other pictures</b>: the thief has no pictures like yours. With the name of a "
        "defense: the best thief behind it. "
        f"{escape(few and 'Rows with fewer than three seeds are an indication, not evidence.')}</p>"
        + _table(names, rows)
    )


def _defenses(found: Findings) -> str:
    best = found.effects[0]
    alt = (
        "Error of the best measured thief without a defense and behind each defense. The largest change: "
        f"{best.label}, {words.rise(best.rise)}."
    )
    rows = "".join(_effect(effect) for effect in found.effects)
    budget = int(found.case["budget"].iloc[0])
    names = ["defense", "error of the best thief, %", "change by the defense", "best thief", "your own error",
             "other top class", "mean l1, customers", "mean l1, thief"]  # fmt: skip
    left = "".join(
        f"<li>{escape(mark_of(name).label)}: {escape(why)}</li>" for name, why in found.left_out.items()
    )
    few = words.few_seeds(found.seeds)
    kinds = [(effect.label, DEFENSES[effect.defense]) for effect in found.effects]
    known = "".join(f"<li>{escape(f'{label}: {kind.title} ({kind.source})')}</li>" for label, kind in kinds)
    return (
        f"<h2>What each defense does</h2><p>{escape(few)} Thieves had {budget:,} queries. A defense counts only against "
        "the <b>best</b> thief: the one who trains on the changed probabilities, who keeps only the top class of each "
        "answer, or who knows the defense and computes the clean answers back. Each defense has its strongest setting "
        f"within your limits ({escape(words.limits_words(found))}).</p>"
        f"<figure>{svg.thieves(found, alt)}<figcaption>Filled: the best measured thief, with the 95 % interval over seeds. "
        "Open: the other thieves. Behind a defense that helps, the filled point lies clearly further right than without "
        "a defense.</figcaption></figure>"
        + _table(names, rows, L1)
        + f'<p class="note">The defenses; a Greek letter is the strength:</p><ul class="note">{known}</ul>'
        + (f'<p class="note">Not tried, because they do not fit:</p><ul class="note">{left}</ul>' if left else "")
    )


def _effect(effect: Effect) -> str:
    absent = words.missing_thieves(effect)
    best = words.NAMES.get(effect.best, effect.best) + (f"; {absent}" if absent else "")
    cells = [
        effect.label,
        words.short(effect.error),
        words.rise(effect.rise),
        best,
        f"{effect.increase:+.2f} points",
        f"{effect.changed:.2f} % (at most {effect.changed_high:.2f})",
        f"{effect.l1:.2f}",
        f"{effect.l1_queries:.2f}",
    ]
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _deploy(found: Findings) -> str:
    verdict = found.verdict
    assert verdict is not None
    if verdict.defense is None:
        reason = {
            "no": "None. No measured defense slows the best thief enough to be worth its price.",
            "cannot tell": "None yet. These runs are too few to tell whether a defense helps; more time gives more seeds.",
        }[verdict.answer]
        return (
            f"<h2>What to deploy</h2><p>{escape(reason)} What helps with any model: limit the queries of an account, watch "
            "for accounts with many or unusual queries, and set terms of use.</p>"
        )
    chosen = next(effect for effect in found.effects if effect.defense == verdict.defense.name)
    stops = "".join(f"<li>{escape(line)}</li>" for line in verdict.not_stopped)
    return (
        f"<h2>What to deploy</h2><p>{escape(verdict.headline)} Its price: {escape(words.customers(chosen))}.</p>"
        f"<pre><code>{escape(defense_command('serve', found.card.name, verdict.defense))}</code></pre>"
        f"<p><b>What it will not stop</b></p><ul>{stops}</ul>"
    )


def _limits(found: Findings) -> str:
    lines = [
        "It holds for this model and these thieves. A thief with more queries, more computing time or better pictures gets "
        "a better clone, with and without a defense.",
        "Intervals cover chance in the thief's training and choice of pictures (seeds). They do not cover other data.",
    ]
    if found.request.pool not in DATASETS:
        lines.append(
            "This program cannot know whether the thief's pictures, which were given for the audit, are like those on which "
            "the model was trained. With more similar pictures, a thief does better."
        )
    elif not found.request.same_kind:
        lines.append(
            "As far as this program knows, no thief had pictures of the kind on which the model was trained. Such a thief "
            "would do better: name such pictures with --pool."
        )
    if (sees := found.request.clone_size) < (size := found.card.size):
        lines.append(
            f"The thief's network saw pictures of {sees} x {sees} pixels, the model pictures of {size} x {size}. A network "
            f"that sees more detail can be a better clone; its training takes longer (--clone-size {min(2 * sees, size)})."
        )
    if not installed():
        lines.append(
            "No thief started from a pretrained network (the optional extra “pretrained” is not installed)."
        )
    if few := words.few_seeds(found.seeds):
        lines.append(few)
    parts = "".join(f"<li>{escape(line)}</li>" for line in lines)
    open_runs = "".join(
        f"<li>{escape(state)}: <code>{escape(command)}</code></li>" for command, state in found.unfinished
    )
    more = f"<p>Begun, but not finished:</p><ul>{open_runs}</ul>" if open_runs else ""
    return f"<h2>What this report does not say</h2><ul>{parts}</ul>{more}"


def _method(found: Findings) -> str:
    request = found.request
    machines = sorted({hardware_words(str(row["hardware"])) for row in found.rows})
    versions = sorted(
        {", ".join(f"{k} {v}" for k, v in json.loads(row["versions"]).items()) for row in found.rows}
    )
    used = {row["queries_from"] for row in found.rows}
    pools = [
        pool_words(found.card.dataset, pool)
        if pool in DATASETS
        else f"the pictures that were given ({Path(pool).name})"
        for pool in (request.pool, request.other)
        if pool and pool in used
    ]
    sent = ", or ".join(pools) or "pictures"
    sees = request.clone_size
    service = (
        f" Requests sent to the service until now: {found.sent:,}, with those of the check, those that failed and were sent "
        "again, and those of other runs."
        if found.sent is not None
        else ""
    )
    known = {
        "Thief": f"KnockoffNets (Orekondy et al., CVPR 2019): sends {sent}, each once, chosen at random, and "
        f"trains the network {request.clone} on the answers"
        + (f"; this network sees the pictures at {sees} x {sees} pixels." if sees < found.card.size else "."),
        "Seeds": f"up to {request.seeds} for each setting. Runs with the same seed send the same pictures.",
        "Queries": f"{found.asked:,} by all runs together, {found.answered:,} of them different. On one machine, the model "
        "answers each picture once, because runs share the stored answers." + service,
        "Intervals": "95 %, Student's t over seeds; differences are paired by seed. For the learning curve: a bootstrap "
        "over seeds. The recommendation uses Holm's correction for the number of compared settings.",
        "Machine": "; ".join(machines) or "no run yet",
        "Load": f"{psutil.getloadavg()[2]:.1f} processes on {launch.cores()} cores in the last 15 minutes, this audit's own "
        "runs included. More than the number of cores: other programs slowed the audit. That changes how much is finished, "
        "not the numbers.",
        "Versions": "; ".join(versions) or "no run yet",
        "Model": f"sha256 {found.card.sha256}" if found.card.sha256 else found.card.name,
    }
    parts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in known.items())
    return (
        f'<h2>Method</h2><dl class="words">{parts}</dl><p>This command made the report; with more time it continues where '
        f"it ended, and repeats nothing:</p><pre><code>{escape(request.command)}</code></pre>"
    )


def _runs(found: Findings) -> str:
    rows = "".join(
        f"<tr><td>{row['seed']}</td><td>{row['adversary_error']:.2f}</td><td>{row['fidelity']:.2f}</td>"
        f"<td>{escape(str(row['date']))}</td><td><code>{escape(str(row['where']))}</code></td></tr>"
        for row in found.rows
    )
    return (
        f"<h2>Every run</h2><details><summary>Runs that are done: {len(found.rows)}, each with the command that repeats it"
        "</summary>"
        + _table(["seed", "error, %", "fidelity, %", "date", "command"], rows, FIDELITY)
        + "</details>"
    )


def _table(names: list[str], rows: str, caption: str = "") -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    above = f'<p class="note">{escape(caption)}</p>' if caption else ""  # outside of the box that scrolls
    kind = ' class="many"' if len(names) > 5 else ""  # wider than a telephone: it scrolls within its box
    table = f"<table{kind}><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'{above}<div class="scroll" tabindex="0">{table}</div>'
