"""JSON of other systems, read value by value: each keeps its place in the file."""

import json
import re
from collections.abc import Iterator
from typing import Any

REPEATED = object()
"""Stands for a value in which an object has a name twice."""
_SPACE = re.compile(r"[ \t\r\n]*")


def unrepeated(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object's members as a dict. Raises ValueError if a name comes twice.

    Which of the two counts, readers of JSON do not agree on (RFC 8259 §4).
    """
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("repeated")
    return found


class JsonDecoder(json.JSONDecoder):
    """Decodes a value; `REPEATED`, where an object in it has a name twice."""

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=self._object)
        self._repeated = False

    def _object(self, members: list[tuple[str, Any]]) -> dict[str, Any]:
        try:
            return unrepeated(members)
        except ValueError:
            # Raised from here, it would look as if the file were no JSON from here on.
            self._repeated = True
            return {}

    def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]:
        """Return the value that begins there, and where it ends. Raises ValueError."""
        self._repeated = False
        value, end = super().raw_decode(s, idx)
        return REPEATED if self._repeated else value, end


class JsonReader:
    """Reads the users of a document."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._decoder = JsonDecoder()
        self.at = 0

    def users(self) -> Iterator[tuple[int, int, Any]]:
        """Where each user begins and ends, and what they are. Raises ValueError."""
        if self._takes("["):
            yield from self._elements()
            return
        self._expect("{")
        found = False
        while not self._takes("}"):
            name = self._value()
            self._expect(":")
            if name == "users":
                if found:
                    raise ValueError("users")
                found = True
                self._expect("[")
                yield from self._elements()
            else:
                self._value()
            self._takes(",")
        if not found:
            raise ValueError("users")

    def _elements(self) -> Iterator[tuple[int, int, Any]]:
        while not self._takes("]"):
            self._skip_space()
            start = self.at
            value = self._value()
            yield start, self.at, value
            self._takes(",")

    def _value(self) -> Any:
        self._skip_space()
        value, self.at = self._decoder.raw_decode(self._text, self.at)
        return value

    def _takes(self, expected: str) -> bool:
        self._skip_space()
        found = self._text.startswith(expected, self.at)
        self.at += len(expected) if found else 0
        return found

    def _expect(self, expected: str) -> None:
        if not self._takes(expected):
            raise ValueError(expected)

    def _skip_space(self) -> None:
        space = _SPACE.match(self._text, self.at)
        assert space
        self.at = space.end()
