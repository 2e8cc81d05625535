"""A page of HTML as a reader of it sees it: elements, texts, charts."""

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "input", "br", "hr", "img", "link"}


@dataclass
class Element:
    """An element: its tag, its attributes, what is in it."""

    tag: str
    attributes: dict[str, str]
    inside: list = field(default_factory=list)

    def all(self, tag=None, **attributes):
        """The elements in it of a tag, with these attributes."""
        for one in self.inside:
            if isinstance(one, Element):
                if tag in (None, one.tag) and attributes.items() <= one.attributes.items():
                    yield one
                yield from one.all(tag, **attributes)

    @property
    def text(self):
        return "".join(one if isinstance(one, str) else one.text for one in self.inside)

    def rows(self):
        """The cells of the tables in it, row by row, as text."""
        for row in self.all("tr"):
            yield [cell.text for cell in row.inside if isinstance(cell, Element)]


class Reader(HTMLParser):
    """Builds elements, and fails where one ends that did not begin."""

    def __init__(self, text):
        super().__init__()
        self.open = [Element("", {})]
        self.feed(text)
        self.close()
        [self.whole] = self.open

    def handle_starttag(self, tag, attrs):
        element = Element(tag, {key: value or "" for key, value in attrs})
        self.open[-1].inside.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        self.open[-1].inside.append(data)


def read(text):
    """The document of a page."""
    return Reader(text).whole


def charts(document, panel):
    """The specifications of the charts of a panel."""
    [section] = document.all("section", id=panel)
    return [json.loads(spec.text) for spec in section.all("script")]
