"""stub"""

from collections import Counter


def write_report(shop):
    shop.paths.report.parent.mkdir(parents=True, exist_ok=True)
    shop.paths.report.write_text("x")
    return Counter()
