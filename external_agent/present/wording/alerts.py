"""What alerts say around a concern."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from external_agent.present.wording import Language


@dataclass(frozen=True, slots=True)
class Words:
    """
    Attributes:
        several, several_over, more: with ``{count}``.
    """

    to_do: str
    several: str
    over: str
    several_over: str
    more: str
    test: str
    test_body: str


WORDS: Mapping[Language, Words] = {
    "en": Words(
        to_do="To do:",
        several="{count} things need attention",
        over="Over:",
        several_over="{count} things are over",
        more="… and {count} more: external-agent status",
        test="A test of alerts",
        test_body="Alerts reach you. Nothing is wrong.",
    ),
    "ja": Words(
        to_do="対応:",
        several="対応が必要な事項が {count} 件あります",
        over="解消:",
        several_over="{count} 件が解消しました",
        more="… ほか {count} 件: external-agent status",
        test="通知のテスト",
        test_body="通知は届いています。異常はありません。",
    ),
}
