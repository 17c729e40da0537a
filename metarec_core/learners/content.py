"""Features alone: ranks items that nobody has met, by content that a user's history shares."""

from __future__ import annotations

from typing import ClassVar

from metarec_core.episodes.types import TaskData
from metarec_core.learners.amortised import Amortised, ReaderConfig
from metarec_core.learners.modes import Mode
from metarec_core.section import Section


class ContentConfig(ReaderConfig):
    """A network that reads supports by their items' features alone."""


class Content(Amortised):
    """The amortised learner in mode ``content``: ``V_i = C c_i``, ``K_i = V_i M + C' c_i``.

    The list score is ``V_i' w + a' c_i + o`` with ``w`` read from the content of the support and
    from the user's features (shapes and formula: :class:`metarec_core.learners.amortised.Amortised`
    with ``keep_i = 0``). Interactions teach it which content is liked together and how much any
    content is liked; none is remembered by its item, so that a new item is ranked like an old one.
    It is the network that DropoutNet (Volkovs et al. 2017) becomes when every id is dropped.
    """

    name: ClassVar[str] = "content"
    Config: ClassVar[type[Section]] = ContentConfig

    def _trained_mode(self) -> Mode:
        return "content"

    def _fading(self, train: TaskData) -> None:
        """No item has a popularity of its own."""
