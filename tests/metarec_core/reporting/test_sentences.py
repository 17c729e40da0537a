import pytest

from metarec_core.episodes.types import ValueScale
from metarec_core.reporting.sentences import same_for_all, sentence
from metarec_core.reporting.words import readable_title
from metarec_core.schema import Feedback

STARS = ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0)
EVENTS = ValueScale(Feedback.IMPLICIT, 0.0, 100.0, 1.0)


def share(kind: str, share: float, title: str | None = None, value: float | None = None) -> dict:
    return {
        "kind": kind,
        "item_id": title and title[:3],
        "title": title,
        "value": value,
        "share": share,
    }


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ("Usual Suspects, The (1995)", "The Usual Suspects (1995)"),
        ("Star Wars (1977)", "Star Wars (1977)"),
        ("Postino, Il (1994)", "Il Postino (1994)"),
        ("Enfer, L' (1994)", "L'Enfer (1994)"),
        (
            "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
            "The City of Lost Children (La Cité des enfants perdus) (1995)",
        ),
        ("Good, the Bad and the Ugly, The", "The Good, the Bad and the Ugly"),
        ("Three Colors: Red (1994)", "Three Colors: Red (1994)"),
        ("Lock, Stock and Two Smoking Barrels", "Lock, Stock and Two Smoking Barrels"),
        ("", ""),
    ],
)
def test_titles_read_as_people_say_them(stored: str, said: str) -> None:
    assert readable_title(stored) == said


HISTORY = [
    share("item", 0.5),
    share("prior", 0.01),
    share("support", 0.4, "Star Wars (1977)", 5.0),
    share("support", 0.3, "Alien, The (1979)", 3.0),
]


@pytest.mark.parametrize(
    ("reasons", "scale", "expected"),
    [
        (
            [*HISTORY, share("beyond", 0.2)],
            STARS,
            ("Because you rated Star Wars (1977) 5 and The Alien (1979) only 3."),
        ),
        (
            [*HISTORY, share("beyond", -2.0)],
            STARS,
            (
                "Because you rated Star Wars (1977) 5 and The Alien (1979) only 3. "
                "Most of the score is a network's, which gives no exact reasons."
            ),
        ),
        (
            [
                share("item", 0.5),
                share("prior", 0.0),
                share("support", 0.0, "Alien", 3.0),
                share("beyond", 2.0),
            ],
            STARS,
            (
                "Your ratings had no exact share in it. Most of the score is "
                "a network's, which gives no exact reasons."
            ),
        ),
        (
            HISTORY,
            STARS,
            ("Because you rated Star Wars (1977) 5 and The Alien (1979) only 3."),
        ),
        (
            [*HISTORY, share("rest", 0.2)],
            STARS,
            (
                "Because you rated Star Wars (1977) 5 and The Alien (1979) only 3, "
                "and for your other ratings taken together."
            ),
        ),
        (
            [share("item", -0.2), share("prior", 0.0), *HISTORY[2:3]],
            STARS,
            "Because you rated Star Wars (1977) 5.",
        ),
        (
            [*HISTORY[:3], share("support", -0.2, "Dumbo (1941)", 2.0), share("rest", -0.3)],
            STARS,
            (
                "Because you rated Star Wars (1977) 5; "
                "against it: your 2 for Dumbo (1941) and "
                "your other ratings taken together."
            ),
        ),
        (
            [*HISTORY[:2], share("support", -0.2, "Dumbo (1941)", 2.5)],
            STARS,
            "It is here in spite of your 2.5 for Dumbo (1941).",
        ),
        (
            [*HISTORY[:3], share("support", -0.001, "Dumbo (1941)", 2.0)],
            STARS,
            "Because you rated Star Wars (1977) 5.",
        ),
        (
            [*HISTORY[:2], share("rest", 0.9)],
            STARS,
            "Because of your ratings taken together.",
        ),
        (
            [*HISTORY, share("rest", -0.2)],
            EVENTS,
            (
                "Because you chose Star Wars (1977) and The Alien (1979); "
                "against it: the rest of your history taken together."
            ),
        ),
        (
            [*HISTORY, share("rest", 2.0)],
            STARS,
            (
                "Because you rated Star Wars (1977) 5 and The Alien (1979) only 3, "
                "and most of all for your other ratings taken together."
            ),
        ),
        (
            [*HISTORY[:2], share("support", -0.2, "Dumbo (1941)", 2.0), share("rest", 2.0)],
            STARS,
            ("Because of your other ratings taken together; against it: your 2 for Dumbo (1941)."),
        ),
        (
            [*HISTORY[:2], share("rest", -0.3)],
            STARS,
            "It is here in spite of your ratings taken together.",
        ),
        (
            HISTORY[:2],
            STARS,
            "Nothing of yours is known yet: it suits people like you.",
        ),
        (
            [share("item", -0.5), share("prior", -0.1)],
            STARS,
            (
                "Nothing of yours is known yet: it is here for the item itself, "
                "although it suits people like you less than others."
            ),
        ),
        (
            [share("item", 0.5), share("prior", -0.1), share("beyond", 0.3)],
            STARS,
            "Nothing of yours is known yet: it is what anyone like you is given.",
        ),
        (
            [share("item", 5.5), share("prior", 0.0)],
            STARS,
            "Nothing of yours is known yet: it is here for the item itself.",
        ),
        (
            [share("item", 5.5), share("prior", 0.0), share("support", 0.0, "Alien", 4.0)],
            STARS,
            "It is here for the item itself; your ratings had no influence.",
        ),
        ([], STARS, "This model gives no reasons."),
        (
            [*HISTORY, share("beyond", 2.0), share("deletion", 0.5, "Alien, The (1979)", 3.0)],
            STARS,
            (
                "Because you rated The Alien (1979) only 3 and Star Wars (1977) 5. "
                "Part of this was found by asking a network again without them."
            ),
        ),
        (
            [*HISTORY, share("beyond", 2.0), share("deletion", 0.1, "Alien, The (1979)", 3.0)],
            STARS,
            ("Because you rated Star Wars (1977) 5 and The Alien (1979) only 3."),
        ),
        (
            [
                share("item", 0.5),
                share("prior", 0.0),
                share("support", 0.0, "Alien", 3.0),
                share("beyond", 2.0),
                share("deletion", -0.3, "Alien", 3.0),
            ],
            STARS,
            (
                "It is here in spite of your 3 for Alien. Part of this was found by "
                "asking a network again without them."
            ),
        ),
        (
            [
                share("item", 0.5),
                share("prior", 0.0),
                share("support", 0.0, "Alien", 3.0),
                share("beyond", 2.0),
                share("deletion", 0.0, "Alien", 3.0),
            ],
            STARS,
            "Your ratings had no influence.",
        ),
    ],
)
def test_a_sentence_says_what_the_shares_say(
    reasons: list[dict], scale: ValueScale, expected: str
) -> None:
    assert sentence(reasons, scale) == expected


def test_shares_that_move_every_entry_alike_are_no_reason() -> None:
    other = [share("item", 0.2), *HISTORY[1:]]
    assert same_for_all([HISTORY, other])
    assert not same_for_all([HISTORY, [*other, share("rest", 0.1)]])
    assert not same_for_all([HISTORY])
    # What stands beside the sum moves nothing.
    assert same_for_all([HISTORY, [*other, share("feature", 0.1), share("deletion", 3.0, "Alien")]])
    said = sentence(HISTORY, STARS, personal=False)
    assert said == "Your ratings moved every entry alike."
    alone = [share("item", 4.1), share("prior", 0.0), *HISTORY[2:]]
    said = sentence(alone, STARS, personal=False)
    assert said == "It is here for the item itself; your ratings moved every entry alike."


@pytest.mark.parametrize("general", [-2.0, 2.1, 4.9])
def test_the_share_of_an_item_is_not_taken_for_its_popularity(general: float) -> None:
    """In a forecast of ratings it is the item's mean: 2.1 of 5 is above 0, and liked by few."""
    for reasons in (HISTORY, HISTORY[:2], [*HISTORY[:2], share("rest", -0.3)]):
        said = sentence([share("item", general), *reasons[1:]], STARS)
        assert said == sentence(reasons, STARS)
        assert "people like it" not in said
        assert "chosen" not in said
