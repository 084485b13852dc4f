"""The dashboard's Masking page: a text is tried under the rules in force, and a file that breaks is told."""

from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.e2e.conftest import start


def test_text_is_tried_under_the_rules_in_force_and_a_broken_file_is_told(tmp_path: Path, browser: Browser) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('version = "one"\n[[rules]]\nname = "employee"\npattern = \'E-\\d{6}\'\n')
    running = start(tmp_path / "data", "--demo", TWINTRACK_MASKING_RULES=str(rules))
    try:
        page = browser.new_page()
        page.goto(running.link)
        page.goto(f"{running.address}/masking")
        page.get_by_role("textbox", name="Text as a person would write it").fill("E-123456 is ada@example.com")
        expect(page.get_by_text("[EMPLOYEE]").last).to_be_visible()
        expect(page.get_by_role("list", name="What was found").get_by_role("listitem")).to_have_count(2)
        rules.write_text("= =")
        expect(page.get_by_role("alert")).to_contain_text("stay in force")
        rules.write_text('version = "two"\n[actions]\nemail = "drop_field"\n')
        expect(page.get_by_text("the whole field would be dropped")).to_be_visible()
        page.close()
    finally:
        assert running.stop() == 0
