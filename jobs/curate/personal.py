"""Personal data in what people wrote, found by Presidio's recognizers and replaced by its kind: ``<KR_RRN>``.

https://microsoft.github.io/presidio. What has a form or a check digit is found: e-mail addresses, phone,
card, bank and IP numbers, and Korea's own (resident and foreigner registration, business registration,
passport, driver's licence, bank account). Names and postal addresses have none, and are not found: a model
that guesses them would also take out what the answers are about. No language model is loaded, and nothing is
fetched.
"""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from logging import WARNING, getLogger
from typing import Any, cast

REGIONS = ("KR", "US")
"""Where phone numbers are written without their country's code; with it, any country's are found."""
THRESHOLD = 0.4
"""Presidio's score for what fits a form and its check digit, or a weak form beside a word that names it."""
_LANGUAGE = "ko"  # only a label here: every recognizer is asked about every text
_DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−﹣－"), "-")
# Presidio's own asks the network which endings domains have.
_EMAIL = r"[A-Za-z0-9._%+-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,24}(?![A-Za-z0-9])"
_ACCOUNT = r"(?<![\d-])\d{2,6}-\d{2,6}-\d{2,8}(?:-\d{1,6})?(?![\d-])"


class Scrubber:
    """Replaces personal data in texts and counts it by kind; texts in ``keep`` (a hotline, say) stay."""

    def __init__(self, keep: Sequence[str] = (), regions: Sequence[str] = REGIONS) -> None:
        self.counts: Counter[str] = Counter()
        """How often each kind was replaced."""
        self._engine = _engine(tuple(regions))
        self._keep = {_plain(text) for text in keep}
        self._find = lru_cache(maxsize=4096)(self._find_anew)  # system prompts come again and again

    def scrub(self, text: str) -> str:
        """``text`` with personal data replaced."""
        for start, end, kind in self._find(text):
            self.counts[kind] += 1
            text = f"{text[:start]}<{kind}>{text[end:]}"
        return text

    def _find_anew(self, text: str) -> list[tuple[int, int, str]]:
        """Places and kinds, the last place first, no two of them overlapping."""
        results = self._engine.analyze(
            _plain(text), language=_LANGUAGE, context=re.findall(r"\w+", text.lower()) + _known_words(text)
        )
        taken: list[tuple[int, int, str]] = []
        for found in sorted(results, key=lambda found: (-found.score, found.start - found.end)):
            start, end = found.start, found.end
            apart = all(end <= other[0] or start >= other[1] for other in taken)
            if apart and _plain(text[start:end]) not in self._keep:
                taken.append((start, end, found.entity_type))
        return sorted(taken, reverse=True)


def _plain(text: str) -> str:
    """``text`` in ASCII, character by character, so that places stay; all other letters become spaces.

    A number's recognizer looks for a word's end behind it, and in Korean a particle follows at once.
    """
    return "".join(_ascii(character) for character in text)


def _ascii(character: str) -> str:
    if character.isascii():
        return character
    form = unicodedata.normalize("NFKC", character).translate(_DASHES)
    return form if len(form) == 1 and form.isascii() else " "


_CONTEXTS = {
    "KR_PASSPORT": ["여권", "passport"],
    "KR_DRIVER_LICENSE": ["면허", "driver", "licence", "license"],
    "KR_BANK_ACCOUNT": ["계좌", "통장", "입금", "송금", "account"],
}


def _known_words(text: str) -> list[str]:
    """The words that name a kind of number, also where a particle is attached to them."""
    return [word for words in _CONTEXTS.values() for word in words if word in text.lower()]


@contextmanager
def _absent(*modules: str) -> Iterator[None]:
    """Import as where ``modules`` are not installed: Presidio loads them if it can, seconds for nothing.

    ``None`` is how Python marks a module as not to be imported.
    """
    marked = [module for module in modules if module not in sys.modules]
    sys.modules.update(dict.fromkeys(marked, cast(Any, None)))
    try:
        yield
    finally:
        for module in marked:
            del sys.modules[module]


@lru_cache
def _engine(regions: tuple[str, ...]) -> Any:
    # It tells of every recognizer that is made, and then text by text.
    getLogger("presidio-analyzer").setLevel(WARNING)
    with _absent("torch", "transformers"):
        from presidio_analyzer import AnalyzerEngine, Pattern, PatternRecognizer, RecognizerRegistry
        from presidio_analyzer import predefined_recognizers as known
        from presidio_analyzer.nlp_engine import NoOpNlpEngine

    def pattern(kind: str, form: str, score: float) -> Any:
        return PatternRecognizer(
            kind,
            patterns=[Pattern(kind, form, score)],
            context=_CONTEXTS.get(kind),
            supported_language=_LANGUAGE,
        )

    recognizers = [
        known.CreditCardRecognizer(supported_language=_LANGUAGE),
        known.IbanRecognizer(supported_language=_LANGUAGE),
        known.IpRecognizer(supported_language=_LANGUAGE),
        known.PhoneRecognizer(supported_language=_LANGUAGE, supported_regions=regions),
        known.KrRrnRecognizer(),
        known.KrFrnRecognizer(),
        known.KrBrnRecognizer(),
        known.KrPassportRecognizer(context=_CONTEXTS["KR_PASSPORT"]),
        known.KrDriverLicenseRecognizer(context=_CONTEXTS["KR_DRIVER_LICENSE"]),
        pattern("EMAIL_ADDRESS", _EMAIL, 0.9),
        pattern("KR_BANK_ACCOUNT", _ACCOUNT, 0.1),
    ]
    nlp = NoOpNlpEngine([{"lang_code": _LANGUAGE, "model_name": ""}])
    nlp.load()
    return AnalyzerEngine(
        registry=RecognizerRegistry(recognizers, supported_languages=[_LANGUAGE]),
        nlp_engine=nlp,
        supported_languages=[_LANGUAGE],
        default_score_threshold=THRESHOLD,
    )
