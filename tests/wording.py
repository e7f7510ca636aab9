#!/usr/bin/env python3
"""Measures the prose of the documentation, and fails where it leaves the field's words.

    python3 tests/wording.py              # measure and check
    python3 tests/wording.py --list       # also print each sentence that counts
    python3 tests/wording.py src/server   # only what is below a path

Doc comments of the libraries and the Markdown pages are split into sentences, without code. Counted are colons
that splice two clauses, and sentences that say something by a negation. Words that name programs as persons, or
that have a plain term in this field, are errors. So are pages of layers whose headings differ from those of others.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = ["src", "middleware/src", "examples"]
FAMILIES = ["access", "limit", "timeout", "observe", "stream", "handler"]
PAGES_OF_THEIR_OWN = ["peer_addr.rs", "proxy_protocol/mod.rs", "tls/mod.rs"]
SHARED = ["key.rs", "sync.rs", "table.rs", "table_full.rs", "until_end.rs"]  # used by several layers of a family
PAGES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "benches/README.md"]

NEGATIONS = re.compile(r"\b(no|none|nobody|nothing|never|neither|nor)\b", re.I)
# A colon with a clause on either side: at least three words before, and a lower-case clause of five after it.
SPLICE = re.compile(r"(?:\S+ ){2,}\S+: (?=[a-z](?:\S* +){4,}\S)")
# Most that the docs may have of either, in per cent of their sentences. hyper-util has 0.1 and 5.9 by this count.
MOST_SPLICES = 3
MOST_NEGATIONS = 6
BANNED = {
    r"\bone's own\b": "custom, or name the owner",
    r"\b(every|some|no)body\b|\bwho(m?ever)\b": "the caller, the client, the peer, another task, no subscriber",
    r"\bfor ever\b": "indefinitely",
    r"\bgood-bye\b|\bpolite(ly)?\b|\bsaying so\b": "close_notify, graceful close",
    r"\bhears? of\b|\bunheard\b": "is notified of; is rejected before anything is read",
    r"\bcomes? to (an|its) end\b|\bgood end\b": "shuts down, ends; graceful shutdown",
    r"\bturned away\b": "rejected",
    r"\bannounc\w+": "notify",
    r"\bleft behind\b": "still running, leaked, remains",
    r"\bcuts?\b": "force-close, closes, splits",
    r"\bbounds? in time\b": "timeout",
    r"\brooms?\b": "capacity, a permit",
    r"(?<!load )\bbalancers?\b": "load balancer",
    r"(?<!file )\bdescriptors?\b": "file descriptor",
    r"\btold\b": "notified, reported, contains",
    r"\bIO\b": "the stream, the I/O object",
    r"\bagree\w* on TLS\b": "performs the TLS handshake",
    r"\bas a rule\b": "usually",
    r"\bby itself\b": "on its own",
    r"\bat once\b": "immediately; concurrently",
    r"\b(lies|stands)\b": "is, is stored, is placed",
    r"\blast call\b": "idle grace period",
    r"\bback-pressure\b": "backpressure",
}
# The headings of a layer's page, in this order; a page leaves out what does not apply.
HEADINGS = [
    "Position in the stack",
    "Errors and outcomes",
    "Cancellation and drop",
    "Limitations",
    "Performance",
    "Example",
]


def doc_comments(text):
    """The text of doc comments, a blank line where one ends."""
    for line in text.splitlines():
        found = re.match(r"\s*//[/!](?!/) ?(.*)", line)
        yield found.group(1) if found else ""


def comments(text):
    """The text of comments that are no docs, a blank line where one ends."""
    for line in text.splitlines():
        found = re.match(r"\s*//(?![/!]) ?(.*)", line)
        yield found.group(1) if found else ""


def prose(lines):
    """Paragraphs without code blocks, tables and headings; list items are paragraphs."""
    paragraph, fenced = [], False
    for line in lines:
        if line.lstrip().startswith("```"):
            fenced = not fenced
            line = ""
        if fenced or re.match(r"\s*(\||#|\[[^\]]*\]:)", line):
            line = ""
        item = re.match(r"\s*(?:[-*]|\d+\.) +(.*)", line)
        if (not line.strip() or item) and paragraph:
            yield " ".join(paragraph)
            paragraph = []
        if line.strip():
            paragraph.append((item.group(1) if item else line).strip())
    if paragraph:
        yield " ".join(paragraph)


def sentences(paragraph):
    plain = re.sub(r"\[([^\]]*)\](?:\([^)]*\))?", r"\1", paragraph)
    plain = re.sub(r"`[^`]*`", "`code`", plain)
    return [s for s in re.split(r"(?<=[.!?;]) +(?=[A-Z`*])", plain) if len(s.split()) > 1]


def headings(path):
    """What is wrong with the headings of a layer's page."""
    text = path.read_text(encoding="utf-8").replace('doc = "```")]', "\n//! ```")  # the fence of an example with a condition
    lines = [line[4:].strip() for line in text.splitlines() if line.startswith("//!")]
    text = re.sub(r"^```.*?^```$", "", "\n".join(lines), flags=re.M | re.S)  # hidden lines of examples begin with #
    found = [line[2:] for line in text.splitlines() if line.startswith("# ")]
    places = [HEADINGS.index(heading) for heading in found if heading in HEADINGS]
    if places != sorted(set(places)):
        yield f"{path.relative_to(ROOT)}: headings are not in the order {', '.join(HEADINGS)}"
    for missing in ["Position in the stack", "Cancellation and drop", "Performance", "Example"]:
        if missing not in found:
            yield f"{path.relative_to(ROOT)}: no heading \u201c{missing}\u201d"
    if first := next((heading for heading in found if heading not in HEADINGS), None):
        yield f"{path.relative_to(ROOT)}: \u201c{first}\u201d is none of the headings of a layer's page; use ## below one"


def layer_pages():
    """The files that hold the pages of layers: each module that defines a layer, in its family."""
    for family in FAMILIES:
        for path in sorted((ROOT / "middleware/src" / family).iterdir()):
            if path.is_dir() and (path / "mod.rs").exists() and path.name != "tests":
                yield path / "mod.rs"
            elif path.suffix == ".rs" and path.name != "mod.rs" and path.name not in SHARED:
                yield path
    yield from (ROOT / "middleware/src" / page for page in PAGES_OF_THEIR_OWN)


def main():
    listing = "--list" in sys.argv[1:]
    only = [path.rstrip("/") for path in sys.argv[1:] if not path.startswith("-")]
    files = [path for source in SOURCES for path in sorted((ROOT / source).rglob("*.[rm][sd]"))]
    files += [ROOT / page for page in PAGES]
    wanted = lambda path: not only or any(str(path.relative_to(ROOT)).startswith(part) for part in only)
    total = splices = negations = 0
    errors = [error for page in layer_pages() if wanted(page) for error in headings(page)]
    for path in filter(wanted, files):
        text = path.read_text(encoding="utf-8")
        rust = path.suffix == ".rs"
        name = path.relative_to(ROOT)
        docs = list(prose(doc_comments(text) if rust else text.splitlines()))
        for paragraph in docs + (list(prose(comments(text))) if rust else []):
            for pattern, instead in BANNED.items():
                if found := re.search(pattern, re.sub(r"`[^`]*`", "", paragraph), re.I if "IO" not in pattern else 0):
                    errors.append(f"{name}: \u201c{found.group()}\u201d; write: {instead}\n    {paragraph[:110]}")
        for paragraph in docs if rust else []:
            for sentence in sentences(paragraph):
                total += 1
                splice, negation = SPLICE.search(sentence), NEGATIONS.search(sentence)
                splices += bool(splice)
                negations += bool(negation)
                if listing and (splice or negation):
                    print(f"{name}: {'colon ' if splice else ''}{'negation ' if negation else ''}{sentence}")
    share = lambda count: 100 * count / max(total, 1)
    print(
        f"{total} sentences; a colon splices clauses in {share(splices):.1f} % (at most {MOST_SPLICES}), "
        f"{share(negations):.2f} % negate (at most {MOST_NEGATIONS}); {len(errors)} errors"
    )
    for error in errors:
        print(error)
    too_much = share(splices) > MOST_SPLICES or share(negations) > MOST_NEGATIONS
    return 1 if errors or too_much else 0


if __name__ == "__main__":
    sys.exit(main())
