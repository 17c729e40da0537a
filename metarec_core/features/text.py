"""Free text: TF-IDF, reduced to a few dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from metarec_core.features.fitted import Array, FitSettings, FloatArray, codes_of, missing_name
from metarec_core.schema import FeatureKind

_TOKEN = r"\b\w\w+\b"  # noqa: S105 (a pattern of words, no secret)
_REMARK = r"\([^()]*\)"
_TILE = 65_536


@dataclass(frozen=True, slots=True)
class Text:
    """Columns ``<name>:svd<j>``, then ``<name>:missing``: latent semantic analysis.

    Terms are lower-case words of two letters or more, or the parts between separators; weights
    are smoothed TF-IDF, rows of unit length, projected on the leading right singular vectors of
    the training rows (Deerwester et al., 1990). Encoding needs no scikit-learn.

    Attributes:
        name: The feature.
        vocabulary: Terms, ``[V]``, sorted.
        idf: Their inverse document frequency, ``[V]`` float32.
        components: Singular vectors, ``[V, D]`` float32.
        average: Mean of the encoded training rows, ``[D + 1]`` float32.
        separator: What stands between terms; None: terms are words.
    """

    kind: ClassVar[FeatureKind] = FeatureKind.TEXT
    name: str
    vocabulary: list[str]
    idf: FloatArray
    components: FloatArray
    average: FloatArray
    separator: str | None = None

    @classmethod
    def fit(cls, name: str, column: pl.Series, settings: FitSettings) -> Self:
        """Learn terms, weights and dimensions from a training column of strings."""
        documents = column.drop_nulls()
        rows, terms = _tokens(documents, settings.text_separator)
        found = pl.DataFrame({"row": rows, "term": terms}).unique()
        counted = (
            found.group_by("term")
            .len("documents")
            .filter(pl.col("documents") >= settings.min_count)
            .sort(["documents", "term"], descending=[True, False])
            .head(settings.text_terms)
            .sort("term")
        )
        vocabulary = counted["term"].to_list()
        frequency = counted["documents"].to_numpy().astype(np.float64)
        idf = (np.log((1.0 + len(documents)) / (1.0 + frequency)) + 1.0).astype(np.float32)
        dimensions = max(min(settings.text_dimensions, len(vocabulary) - 1, len(documents) - 1), 0)
        components = np.zeros((len(vocabulary), dimensions), dtype=np.float32)
        ones, separator = np.ones(dimensions + 1, dtype=np.float32), settings.text_separator
        plain = cls(name, vocabulary, idf, components, ones, separator)
        if dimensions:
            components = plain._components(documents, dimensions, settings.seed)
        plain = cls(name, vocabulary, idf, components, ones, separator)
        encoded = plain.encode(column)
        average = (
            encoded.mean(axis=0, dtype=np.float64) if len(encoded) else np.zeros(dimensions + 1)
        )
        return cls(name, vocabulary, idf, components, average.astype(np.float32), separator)

    def _components(self, documents: pl.Series, dimensions: int, seed: int) -> FloatArray:
        # Heavy, and needed for fitting alone: serving must not load them.
        from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
        from sklearn.decomposition import TruncatedSVD

        rows, codes, weights = self._weights(documents)
        matrix = csr_matrix(
            (weights.astype(np.float64), (rows, codes)),
            shape=(len(documents), len(self.vocabulary)),
        )
        # Identical rows have no variance, and its share, which nobody reads, is 0 / 0.
        with np.errstate(divide="ignore", invalid="ignore"):
            svd = TruncatedSVD(n_components=dimensions, random_state=seed).fit(matrix)
        return np.ascontiguousarray(svd.components_.T, dtype=np.float32)

    def _weights(
        self, documents: pl.Series
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatArray]:
        rows, terms = _tokens(documents, self.separator)
        codes = codes_of(terms, self.vocabulary)
        known = codes >= 0
        counted = (
            pl.DataFrame({"row": rows[known], "code": codes[known]})
            .group_by("row", "code")
            .len("count")
            .sort("row", "code")
        )
        row, code = counted["row"].to_numpy(), counted["code"].to_numpy()
        weights = counted["count"].to_numpy().astype(np.float64) * self.idf[code]
        lengths = np.sqrt(np.bincount(row, weights=weights**2, minlength=len(documents)))
        return row, code, (weights / lengths[row]).astype(np.float32)

    def names(self) -> list[str]:
        """Names of the encoded columns, ``[D + 1]``."""
        dimensions = [f"{self.name}:svd{index}" for index in range(self.components.shape[1])]
        return [*dimensions, missing_name(self.name)]

    def encode(self, column: pl.Series) -> FloatArray:
        """Projections and flag, ``[n, D + 1]``."""
        dimensions = self.components.shape[1]
        encoded = np.zeros((len(column), dimensions + 1), dtype=np.float32)
        rows, codes, weights = self._weights(column)
        # Entries are sorted by row. A tile of them is projected at once: all of them would take
        # D times the memory of the text.
        for start in range(0, len(rows), _TILE):
            tile = slice(start, start + _TILE)
            places, firsts = np.unique(rows[tile], return_index=True)
            projected = weights[tile, None] * self.components[codes[tile]]
            encoded[places, :dimensions] += np.add.reduceat(projected, firsts, axis=0)
        empty = column.is_null().to_numpy()
        if self.average[dimensions] > 0.0:
            encoded[empty, dimensions] = 1.0
        else:
            encoded[empty] = self.average
        return encoded

    def impute(self, column: pl.Series) -> list[pl.Series]:
        """The column with empty texts in its gaps."""
        return [column.fill_null("")]

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Terms as JSON, everything else as arrays."""
        return {"vocabulary": self.vocabulary, "separator": self.separator}, {
            "idf": self.idf,
            "components": self.components,
            "average": self.average,
        }

    @classmethod
    def from_state(cls, name: str, settings: dict[str, Any], arrays: dict[str, Array]) -> Self:
        """The feature that :meth:`state` was taken from."""
        return cls(
            name,
            list(settings["vocabulary"]),
            arrays["idf"],
            arrays["components"],
            arrays["average"],
            settings.get("separator"),
        )


def _tokens(documents: pl.Series, separator: str | None) -> tuple[npt.NDArray[np.int64], pl.Series]:
    texts = documents.fill_null("").str.to_lowercase()
    if separator is None:
        words = texts.str.extract_all(_TOKEN)
    else:
        parts = texts.str.replace_all(_REMARK, "").str.split(separator)
        words = parts.list.eval(pl.element().str.strip_chars())
        words = words.list.eval(pl.element().filter(pl.element() != ""))
    counts = words.list.len().to_numpy()
    rows = np.repeat(np.arange(len(documents), dtype=np.int64), counts)
    return rows, words.filter(words.list.len() > 0).explode().alias("term")
