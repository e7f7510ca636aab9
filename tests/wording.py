#!/usr/bin/env python3
"""Measures the prose of the documentation, and fails where it leaves the field's words.

    python3 tests/wording.py              # measure and check
    python3 tests/wording.py --list       # also print each sentence that counts

Doc comments of the libraries and the Markdown pages are split into sentences, without code. Counted are colons
that splice two clauses, and sentences that say something by a negation. Words that name programs as persons, or
that have a plain term in this field, are errors.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = ["src", "middleware/src", "examples"]
PAGES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "benches/README.md"]

NEGATIONS = re.compile(r"\b(no|none|nobody|nothing|never|not|neither|nor|cannot|without)\b", re.I)
# A colon with a clause on either side: at least three words before, and a lower-case clause of five after it.
SPLICE = re.compile(r"(?:\S+ ){2,}\S+: (?=[a-z](?:\S* +){4,}\S)")
BANNED = {
    r"\bone's own\b": "custom, or name the owner",
    r"\bsomebody\b": "the caller, the client, another task",
    r"\bnobody\b": "the caller, the client, no subscriber",
    r"\bwhoever\b": "the caller, the client, the peer",
    r"\bfor ever\b": "indefinitely",
    r"\bgood-bye\b": "close_notify",
    r"\bhears? of\b": "is notified of",
    r"\bcomes? to (?:an|its) end\b": "shuts down, ends",
    r"\bgood end\b": "graceful shutdown",
    r"\bturned away\b": "rejected",
}


def doc_comments(text):
    """The text of doc comments, a blank line where one ends."""
    for line in text.splitlines():
        found = re.match(r"\s*//[/!](?!/) ?(.*)", line)
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


def main():
    listing = "--list" in sys.argv[1:]
    files = [path for source in SOURCES for path in sorted((ROOT / source).rglob("*.rs"))]
    files += [ROOT / page for page in PAGES]
    total = splices = negations = 0
    errors = []
    for path in files:
        text = path.read_text(encoding="utf-8")
        lines = doc_comments(text) if path.suffix == ".rs" else text.splitlines()
        name = path.relative_to(ROOT)
        rust = path.suffix == ".rs"
        for paragraph in prose(lines):
            for pattern, instead in BANNED.items():
                if found := re.search(pattern, re.sub(r"`[^`]*`", "", paragraph), re.I):
                    errors.append(f"{name}: \u201c{found.group()}\u201d; write: {instead}\n    {paragraph[:110]}")
            if not rust:
                continue
            for sentence in sentences(paragraph):
                total += 1
                splice, negation = SPLICE.search(sentence), NEGATIONS.search(sentence)
                splices += bool(splice)
                negations += bool(negation)
                if listing and (splice or negation):
                    print(f"{name}: {'colon ' if splice else ''}{'negation ' if negation else ''}{sentence}")
    print(
        f"{total} sentences; a colon splices clauses in {100 * splices / total:.1f} %, "
        f"{100 * negations / total:.1f} % negate; {len(errors)} words to replace"
    )
    for error in errors:
        print(error)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
