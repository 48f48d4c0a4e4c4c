"""Small damages to bytes: what mutations are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hypothesis import strategies as st

JUNK = [
    b"\0",
    b"\r\n",
    b" ",
    b"\t",
    b"%",
    b"%00",
    b"%zz",
    b"%ed%a0%80",
    b"%c0%80",
    b"&",
    b"=",
    b"+",
]
JUNK += [b".", b"..", b"=" * 4, b"-_", b"\xff", b"\xed\xa0\x80", "é".encode(), b"{}", b"A" * 300]


@dataclass(frozen=True)
class Damage:
    """One change, at a place that counts modulo the length."""

    kind: Literal["flip", "put in", "cut out", "double", "cut off"]
    at: int
    length: int
    junk: bytes

    def done_to(self, text: bytes) -> bytes:
        """The text with the damage."""
        at = self.at % (len(text) + 1)
        before, hit, after = text[:at], text[at : at + self.length], text[at + self.length :]
        match self.kind:
            case "flip":
                return before + bytes(each ^ 1 << self.at % 8 for each in hit) + after
            case "put in":
                return before + self.junk + hit + after
            case "cut out":
                return before + after
            case "double":
                return before + hit + hit + after
            case "cut off":
                return before


damages = st.lists(
    st.builds(
        Damage,
        kind=st.sampled_from(["flip", "put in", "cut out", "double", "cut off"]),
        at=st.integers(0, 2000),
        length=st.sampled_from([1, 1, 1, 4, 40, 400]),
        junk=st.one_of(st.sampled_from(JUNK), st.binary(min_size=1, max_size=8)),
    ),
    max_size=3,
)


def damaged(text: bytes, damages: Sequence[Damage]) -> bytes:
    """The text with all of them, one after the other."""
    for each in damages:
        text = each.done_to(text)
    return text


def sendable(header: bytes) -> bytes:
    """What of these bytes a server would take for the value of one header."""
    return header.translate(None, b"\r\n\0").strip()
