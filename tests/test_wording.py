"""A report states measurements: every sentence and every JSON name is linted, in both languages."""

from __future__ import annotations

import html.parser
import json
import math
import re
from dataclasses import replace

import pytest

from dataguard.evidence.bundle import compose
from dataguard.evidence.case import Case
from dataguard.evidence.display import log10_text, odds_en, odds_ja, share_text, shown
from dataguard.evidence.wording import FORBIDDEN, lint, lint_html, lint_names, names
from test_evidence_world import SIGNER, World, check, failures

NEVER = (
    "The data was stolen by R.", "R leaked the file.", "leaked by R", "This infringes Art. 2(1).", "It is proven.",
    "100% certain", "100 % of rows", "0% error", "This is impossible.", "the suspect knew", "in bad faith",
    "the accused", "a guilty party", "probability of guilt", "the defendant published", "criminal use",
    "beyond doubt", "without any doubt", "The data is 限定提供データ.", "the data is shared data with limited access",
    "malicious recipient", "unlawful acquisition", "it was stolen", "The theft of data", "definitive result",
    "misappropriated by R", "was copied by R", "営業秘密として保護",
    "R社が漏えいした。", "盗用された。", "窃取が証明された", "侵害が認められる", "限定提供データに該当する",
    "悪意である",
    "知っていた", "100%一致する", "100%一致する", "確実に同一である", "間違いなく同一", "偶然は不可能である", "犯人",
    "不正に取得した", "被告", "疑いの余地がない", "ありえない", "持ち出した",
)  # fmt: skip
MAY = (
    "The suspect corresponds to copy 3.", "The measurement is inconclusive.", "A Merkle proof is in the annex.",
    "the score supports the hypothesis", "uncertain", "Share: 0.1000", "50 % of rows", "1,100 rows, 3.100 %",
    "発行番号3の複製物に対応する。", "判定不能である。", "確率は高くとも10の9乗分の1である。", "支持する", "10,100行",
    "The file “leaked 100%.csv” was read.", "ファイル「盗まれたデータ.csv」を読んだ。", "reproducible", "improve",
)  # fmt: skip


@pytest.mark.parametrize("text", NEVER)
def test_forbidden_words_are_found(text: str) -> None:
    assert lint(text), text


@pytest.mark.parametrize("text", MAY)
def test_permitted_words_pass(text: str) -> None:
    assert lint(text) == []


def test_every_pattern_compiles_and_finds_something_of_the_list() -> None:
    for pattern, reason in FORBIDDEN:
        assert any(re.search(pattern, text, re.IGNORECASE) for text in NEVER), (pattern, reason)


def test_names_are_taken_apart() -> None:
    assert lint_names(["is_leaked", "guiltScore", "proof", "log10_p", "knew-it"]) != []
    assert len(lint_names(["is_leaked", "guiltScore", "proof", "log10_p", "knew-it"])) == 3
    assert sorted(names({"a": [{"b": 1}], "c": {"d": []}})) == ["a", "b", "c", "d"]


# --- whole bundles ---------------------------------------------------------------------------------


def cases() -> dict[str, Case]:
    plain = {outcome: World().case(outcome) for outcome in ("corresponds", "inconclusive", "no-mark")}
    full = World().case()
    everything = replace(
        full,
        comparison={
            **full.comparison, "relation": "same-rows",
            "containment_original": {"estimate": 1.0, "low": 1.0, "high": 1.0, "exact": True},
            "containment_suspect": {"estimate": 1.0, "low": None, "high": None, "exact": True},
        },
    )  # fmt: skip
    return plain | {"everything": everything, "hostile names": hostile()}


def hostile() -> Case:
    """Names that try markup, templates, direction changes, and accusations."""
    evil = "\u202e<img src=x onerror=alert(1)>{{7*7}}{recipient}“stolen”\x00\n100%"
    case = World(recipient=evil).case()
    columns = [
        *case.comparison["columns"],
        {**case.comparison["columns"][0], "original": "id", "suspect": evil},
    ]
    changes = [
        {"kind": "renamed", "from": evil, "to": evil * 9}, {"kind": "columns-added", "columns": [evil] * 50}
    ]  # fmt: skip
    return replace(
        case,
        suspect={
            **case.suspect, "name": evil + "x" * 5000,
            "columns": [evil if c == "extra" else c for c in case.suspect["columns"]],
        },
        comparison={**case.comparison, "columns": columns, "changes": changes},
    )  # fmt: skip


CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_page_readme_sentences_and_names_are_clean(name: str) -> None:
    files = compose(CASES[name], SIGNER)
    assert failures(check(files)) == []
    assert lint_html(files["report.html"].decode()) == []
    assert lint(files["README.txt"].decode()) == []
    statement = json.loads(files["report.json"])
    for section, rows in statement["prose"].items():
        for row in rows:
            assert {"en", "ja"} <= set(row), section
            for text in row.values():
                assert lint(text) == [], (section, text)
            assert re.search("[ぁ-んァ-ン]", row["ja"]), row
            assert not re.search("[ぁ-んァ-ン]", row["en"].replace("場所", "")), row
    named = [n for n in files if n.endswith(".json")]
    evil = CASES["hostile names"].suspect["name"][:20]
    found = [n for f in named for n in names(json.loads(files[f])) if not n.startswith(evil)]
    assert "log10_p" in found
    assert lint_names(found) == []


def test_both_languages_state_the_same_figures() -> None:
    for case in CASES.values():
        prose = json.loads(compose(case, SIGNER)["report.json"])["prose"]
        for row in [*prose["result"], *prose["arithmetic"]]:
            if "stolen" in row["en"]:
                continue  # digits of a hostile name
            figures = [
                sorted(re.findall(r"-?\d[\d,]*\.\d{4}|\d[\d,]{2,}", row[lang])) for lang in ("en", "ja")
            ]
            assert figures[0] == figures[1], row


class Page(html.parser.HTMLParser):
    """Collects tags, and checks that they nest."""

    VOID = ("meta", "br", "img", "link", "hr", "input")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", CASES)
def test_page_is_self_contained_and_nothing_foreign_is_markup(name: str) -> None:
    text = compose(CASES[name], SIGNER)["report.html"].decode()
    page = Page()
    page.feed(text)
    assert page.open == []
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "link", "iframe", "object", "a", "base", "form", "input"}
    for tag, attributes in page.tags:
        assert not [a for a in attributes if a.startswith("on") or a in ("src", "href", "style")], (
            tag,
            attributes,
        )
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "url(" not in text
    assert "@import" not in text
    assert "{{" not in text.replace("{{7*7}}", "")
    assert "49" not in re.findall(r">(\d+)<", text)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00]", text)
    assert ("<svg" in text) == (name not in ("inconclusive", "no-mark"))


def test_required_sections_stand_in_the_page() -> None:
    text = compose(CASES["corresponds"], SIGNER)["report.html"].decode()
    for words in (
        "DRAFT", "下書き", "What this report does not say", "本報告書が述べないこと", "asserted, not recomputable",
        "申告値", "Other explanations", "not tested", "未検討", "dataguard verify", "Sign-off", "Reviewer", "確認者",
        "Error bound", "Limits", "限界", "clock", "提供者の時計",
    ):  # fmt: skip
        assert words in text, words
    assert "could itself have made the copy" in text


# --- numbers ---------------------------------------------------------------------------------------


def test_odds_are_never_smaller_than_the_bound() -> None:
    for step in range(1, 3000):
        log10_p = -step / 100
        said = odds_en(log10_p)
        if said.startswith("1 ("):
            assert log10_p > math.log10(0.5)
            continue
        exponent = re.search(r"10\^(\d+)", said)
        stated = -int(exponent[1]) if exponent else -math.log10(int(said[5:].split()[0].replace(",", "")))
        assert stated >= log10_p - 1e-9, (log10_p, said)
    assert odds_en(-9.0) == "1 in 10^9 (a one with 9 zeros)"
    assert odds_en(math.log10(1e-9)) == "1 in 10^9 (a one with 9 zeros)"
    assert odds_en(-2.0) == "1 in 100"
    assert odds_ja(-2.0) == "100分の1"
    assert odds_ja(-12.3) == "10の12乗分の1"


def test_shares_are_cut_and_gaps_are_dashes() -> None:
    assert [share_text(s) for s in (1.0, 0.99999, 0.5, 0.0, None)] == [
        "1.0000",
        "0.9999",
        "0.5000",
        "0.0000",
        "–",
    ]
    assert log10_text(None) == "–"


def test_foreign_names_are_shown_on_one_line_without_tricks() -> None:
    assert shown("a\nb\u202ec“d”\u2028\ud800") == "a<U+000A>b<U+202E>c<U+201C>d<U+201D><U+2028><U+D800>"
    assert shown("x" * 500) == "x" * 119 + "…"
    assert shown("列名 ①髙") == "列名 ①髙"
