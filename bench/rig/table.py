"""The figures as a table: medians over the rounds, ratios within a round, targets beside them."""

from statistics import median

from .targets import TARGETS, Absolute, Growth, Ratio, Rise, Surcharge

OURS = "tidewire"


class Verdicts:
    """How many targets were met, missed, or could not be measured."""

    def __init__(self):
        self.met = self.missed = self.unmeasured = 0

    def count(self, value, limit):
        if value is None:
            self.unmeasured += 1
            return "not measured"
        if value <= limit:
            self.met += 1
            return "pass"
        self.missed += 1
        return "short"


def print_part(name, part, missing, reports, verdicts):
    """`reports` holds for each server its reports, one a round."""
    print(f"\n{name}: {part.title}")
    for server, runs in reports.items():
        for index, (key, figure) in enumerate(part.figures.items()):
            values = [figure.find(report) for report in runs]
            label = server if index == 0 else ""
            spread = f"({min(values):.2f} .. {max(values):.2f})"
            value = f"{median(values):>8.2f} {figure.unit}"
            line = f"  {label:<14} {figure.title:<20}{value:<13} {spread:<19}"
            if index == 0:
                line += aside(part, runs)
            print(line.rstrip())
    for server, reason in missing.items():
        print(f"  {server:<14} not measured: {reason}")
    for warning in sorted({warning for runs in reports.values() for run in runs
                           for warning in run["warnings"]}):
        print(f"  warning: {warning}")
    for target in (target for target in TARGETS if target.part == name):
        print_target(target, part, reports, verdicts)


def aside(part, runs):
    """The median of each value that stands behind the figures."""
    if not part.aside:
        return ""
    numbers = {key for run in runs for key, value in run.items() if isinstance(value, (int, float))}
    return part.aside.format(**{key: median(run[key] for run in runs) for key in numbers})


def print_target(target, part, reports, verdicts):
    value, what = evaluate(target, part, reports)
    shown = "-" if value is None else f"{value:.2f}"
    verdict = verdicts.count(value, target.limit)
    print(f"    {what:<44} {shown:>6}   <= {target.limit:.2f}   {verdict}")


def evaluate(target, part, reports):
    """The value that a target is about, if it was measured, and its name."""
    figure = part.figures[target.figure]
    ours = reports.get(OURS)
    match target:
        case Ratio(peer=peer):
            return (
                paired(ratio, figure, ours, figure, reports.get(peer)),
                f"{figure.title}, {OURS} / {peer}",
            )
        case Growth(over=over):
            base = part.figures[over]
            return paired(ratio, figure, ours, base, ours), f"{figure.title} / {base.title}"
        case Rise(over=over):
            base = part.figures[over]
            return (
                paired(difference, figure, ours, base, ours),
                f"{figure.title} - {base.title} [{figure.unit}]",
            )
        case Surcharge(variant=variant):
            return (
                paired(difference, figure, reports.get(variant), figure, ours),
                f"{figure.title}, {variant} - {OURS} [{figure.unit}]",
            )
        case Absolute():
            value = median(figure.find(report) for report in ours) if ours else None
            return value, f"{figure.title} [{figure.unit}]"


def ratio(ours, theirs):
    return ours / theirs if theirs > 0 else None


def difference(ours, theirs):
    return ours - theirs


def paired(compare, figure, runs, other_figure, other_runs):
    """The median of the comparisons within a round: what moves both in one round cancels out."""
    if not runs or not other_runs:
        return None
    pairs = [
        (figure.find(run), other_figure.find(other)) for run, other in zip(runs, other_runs)
    ]
    compared = [value for value in (compare(*pair) for pair in pairs) if value is not None]
    return median(compared) if compared else None
