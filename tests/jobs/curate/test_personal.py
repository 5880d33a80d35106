import pytest

from jobs.curate.personal import Scrubber


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("번호는 010-1234-5678이고", "번호는 <PHONE_NUMBER>이고"),
        ("메일은 kim@example.com으로", "메일은 <EMAIL_ADDRESS>으로"),
        ("０１０－１２３４－５６７８로 전화", "<PHONE_NUMBER>로 전화"),
        ("전화 02-312-3456, 국제 +82 10-1234-5678", "전화 <PHONE_NUMBER>, 국제 <PHONE_NUMBER>"),
        ("주민번호 900101-1234568입니다", "주민번호 <KR_RRN>입니다"),
        ("외국인등록번호 900101-5234567", "외국인등록번호 <KR_FRN>"),
        ("사업자등록번호 220-81-62517입니다", "사업자등록번호 <KR_BRN>입니다"),
        ("여권번호는 M12345678입니다", "여권번호는 <KR_PASSPORT>입니다"),
        ("운전면허 11-20-123456-12", "운전면허 <KR_DRIVER_LICENSE>"),
        ("계좌 110-123-456789로 입금", "계좌 <KR_BANK_ACCOUNT>로 입금"),
        ("카드 4111-1111-1111-1111로 결제", "카드 <CREDIT_CARD>로 결제"),
        ("call (212) 555-0199 or +44 20 7946 0958", "call <PHONE_NUMBER> or <PHONE_NUMBER>"),
        ("IBAN DE89370400440532013000, from 192.168.0.12", "IBAN <IBAN_CODE>, from <IP_ADDRESS>"),
    ],
)
def test_personal_data_is_replaced_by_its_kind_also_before_korean_particles(text: str, scrubbed: str) -> None:
    assert Scrubber().scrub(text) == scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "Fired pieces are ready after 19 days; a bowl costs 38 euros, from 9:40 to 18:20.",
        "Pickle the cat, Bramble Lane, and Juniper.",
        "Invoice 2024-03-15-001 over 1,234,567 won, order M12345678.",
        "사업자등록번호 123-45-67890은 없는 번호",  # its check digit is wrong
        "가격은 12,000원이고 2026년 11월 22일까지입니다.",
        "",
    ],
)
def test_what_is_no_personal_data_stays(text: str) -> None:
    assert Scrubber().scrub(text) == text


def test_it_counts_by_kind_and_keeps_what_it_is_told_to() -> None:
    scrubber = Scrubber(keep=["1588-1234"], regions=["KR"])
    told = scrubber.scrub("대표번호 1588-1234, 담당자 010-1234-5678, 010-9999-8888, a@b.kr")
    assert told == "대표번호 1588-1234, 담당자 <PHONE_NUMBER>, <PHONE_NUMBER>, <EMAIL_ADDRESS>"
    assert scrubber.counts == {"PHONE_NUMBER": 2, "EMAIL_ADDRESS": 1}
