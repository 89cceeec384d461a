use super::*;
use crate::replies::tests::{article, check_samples, document, refusal};

const MEDIA_ID: &str = "mZ3xQp7LrT_1aVd8KsWc0nYb";
const DETAIL: &str = "https://app.example/d";

fn source() -> Source {
    Source::new("Demo app").with_icon_url("https://img.example/i.png").with_desc_color(DescColor::Black)
}

fn menu() -> ActionMenu {
    ActionMenu::new([MenuAction::new("mute", "k_mute"), MenuAction::new("unmute", "k_unmute")]).with_desc("more")
}

fn title() -> MainTitle {
    MainTitle::new("Leave request").with_desc("submitted")
}

fn quote() -> QuoteArea {
    QuoteArea::new("see chapter 3").with_title("Policy").with_link(Link::url("https://app.example/q"))
}

/// The sample writes the targets that a row does not have as empty elements.
fn rows() -> [HorizontalContent; 2] {
    let filled = |row: HorizontalContent| HorizontalContent {
        url: row.url.or(Some(String::new())),
        media_id: Some(String::new()),
        user_id: Some(String::new()),
        ..row
    };
    let rows = [HorizontalContent::text("Applicant", "Li Lei"), HorizontalContent::url("Detail", "open", DETAIL)];
    rows.map(filled)
}

fn click() -> CardAction {
    CardAction::from(Link::url(DETAIL)).with_title("open")
}

fn selector() -> Selector {
    Selector::new("q1", [SelectOption::new("o1", "low"), SelectOption::new("o2", "high")])
        .with_title("Level")
        .with_selected_id("o1")
        .with_disable(false)
}

fn submit() -> SubmitButton {
    SubmitButton::new("Submit", "k_submit")
}

fn text_notice() -> TextNoticeCard {
    TextNoticeCard::new(click())
        .with_source(source())
        .with_action_menu(menu())
        .with_main_title(title())
        .with_quote_area(quote())
        .with_emphasis_content(EmphasisContent::new("3", "days"))
        .with_sub_title_text("Li Lei asks for three days")
        .with_horizontal_content(rows())
        .with_jumps([Jump::new("Open", Link::url(DETAIL))])
}

fn news_notice() -> NewsNoticeCard {
    let area = ImageTextArea::new("https://img.example/p.jpg")
        .with_link(Link::url("https://app.example/i"))
        .with_title("Plan")
        .with_desc("Q1");
    NewsNoticeCard::new(click())
        .with_source(source())
        .with_action_menu(menu())
        .with_main_title(title())
        .with_quote_area(quote())
        .with_image_text_area(area)
        .with_card_image(CardImage::new("https://img.example/c.jpg").with_aspect_ratio(1.3))
        .with_vertical_content([VerticalContent::new("First", "one"), VerticalContent::new("Second", "two")])
        .with_horizontal_content(rows())
        .with_jumps([Jump::new("Open", Link::url(DETAIL))])
}

fn buttons() -> ButtonInteractionCard {
    let buttons = [Button::new("Approve", "k_ok").with_style(1), Button::new("Refuse", "k_no").with_style(2)];
    ButtonInteractionCard::new(buttons)
        .with_source(source())
        .with_action_menu(menu())
        .with_main_title(title())
        .with_quote_area(quote())
        .with_sub_title_text("Li Lei asks for three days")
        .with_horizontal_content(rows())
        .with_card_action(click())
        .with_button_selection(selector())
        .with_replace_text("submitted")
}

fn vote() -> VoteInteractionCard {
    let options =
        [CheckOption::new("o1", "tea").with_is_checked(true), CheckOption::new("o2", "coffee").with_is_checked(false)];
    let choices = CheckBox::new("q1", options).with_disable(false).with_mode(CheckBoxMode::Multiple);
    VoteInteractionCard::new(choices)
        .with_source(source())
        .with_main_title(title())
        .with_submit_button(submit())
        .with_replace_text("submitted")
}

fn selectors() -> MultipleInteractionCard {
    MultipleInteractionCard::new([selector(), selector()])
        .with_source(source())
        .with_main_title(title())
        .with_submit_button(submit())
        .with_replace_text("submitted")
}

#[test]
fn the_builders_make_the_samples() {
    let rows = [
        ("wecom.reply.text", Reply::text("Approved.")),
        ("wecom.reply.image", Reply::image(MEDIA_ID)),
        ("wecom.reply.voice", Reply::voice(MEDIA_ID)),
        ("wecom.reply.video", Reply::video(MEDIA_ID).title("Tour").description("Office tour").into()),
        ("wecom.reply.news", Reply::news([article()])),
        ("wecom.reply.update_button", Reply::update_button("Done")),
        ("wecom.reply.update_taskcard", Reply::update_taskcard("Done")),
        ("wecom.reply.update_template_card_text_notice", Reply::update_template_card(text_notice())),
        ("wecom.reply.update_template_card_news_notice", Reply::update_template_card(news_notice())),
        ("wecom.reply.update_template_card_button_interaction", Reply::update_template_card(buttons())),
        ("wecom.reply.update_template_card_vote_interaction", Reply::update_template_card(vote())),
        ("wecom.reply.update_template_card_multiple_interaction", Reply::update_template_card(selectors())),
    ];
    check_samples("wecom.reply.", rows.map(|(id, reply)| (id, document(reply))).into());
}

fn notice() -> TextNoticeCard {
    TextNoticeCard::new(Link::url(DETAIL))
}

fn news() -> NewsNoticeCard {
    NewsNoticeCard::new(Link::url(DETAIL))
}

fn one_button() -> ButtonInteractionCard {
    ButtonInteractionCard::new([Button::new("a", "b")])
}

fn row() -> HorizontalContent {
    HorizontalContent::text("a", "b")
}

#[test]
fn cards_that_the_platform_refuses_are_errors() {
    let entries = |count| vec![MenuAction::new("a", "b"); count];
    let rows: Vec<(TemplateCard, &str)> = vec![
        (TextNoticeCard::default().into(), "a notice card needs a link to open"),
        (NewsNoticeCard::new(Link::none()).into(), "a notice card needs a link to open"),
        (TextNoticeCard::new(Link::url("")).into(), "the URL of a link is empty"),
        (TextNoticeCard::new(Link::mini_program("", "p")).into(), "the AppId of a link is empty"),
        (
            notice().with_action_menu(ActionMenu::new([])).into(),
            "no entries of the action menu, at least one is needed",
        ),
        (
            notice().with_action_menu(ActionMenu::new(entries(4))).into(),
            "4 entries of the action menu, at most 3 are allowed",
        ),
        (
            notice().with_action_menu(ActionMenu::new([MenuAction::new("a", "")])).into(),
            "the key of a menu entry is empty",
        ),
        (notice().with_quote_area(QuoteArea::new("q").with_link(Link::url(""))).into(), "the URL of a link is empty"),
        (notice().with_horizontal_content(vec![row(); 7]).into(), "7 rows, at most 6 are allowed"),
        (notice().with_horizontal_content([HorizontalContent::text("", "b")]).into(), "the key of a row is empty"),
        (notice().with_horizontal_content([HorizontalContent::url("a", "b", "")]).into(), "the URL of a row is empty"),
        (
            notice().with_horizontal_content([HorizontalContent::file("a", "b", "")]).into(),
            "the MediaId of a row is empty",
        ),
        (
            notice().with_horizontal_content([HorizontalContent::member("a", "b", "")]).into(),
            "the UserId of a row is empty",
        ),
        (notice().with_jumps(vec![Jump::new("a", Link::none()); 4]).into(), "4 jumps, at most 3 are allowed"),
        (notice().with_jumps([Jump::new("", Link::none())]).into(), "the title of a jump is empty"),
        (
            news().with_vertical_content(vec![VerticalContent::new("a", "b"); 5]).into(),
            "5 vertical rows, at most 4 are allowed",
        ),
        (news().with_image_text_area(ImageTextArea::new("")).into(), "the ImageUrl of the picture area is empty"),
        (news().with_card_image(CardImage::new("")).into(), "the URL of the card image is empty"),
        (
            news().with_card_image(CardImage::new("u").with_aspect_ratio(3.0)).into(),
            "the aspect ratio is not from 1.3 to 2.25",
        ),
        (
            news().with_card_image(CardImage::new("u").with_aspect_ratio(f64::NAN)).into(),
            "the aspect ratio is not from 1.3 to 2.25",
        ),
        (ButtonInteractionCard::new([]).into(), "no buttons, at least one is needed"),
        (ButtonInteractionCard::new(vec![Button::new("a", "b"); 7]).into(), "7 buttons, at most 6 are allowed"),
        (ButtonInteractionCard::new([Button::new("a", "")]).into(), "the key of a button is empty"),
        (
            ButtonInteractionCard::new([Button::new("a", "b").with_style(5)]).into(),
            "the style of a button is not from 1 to 4",
        ),
        (one_button().with_button_selection(Selector::new("q", [])).into(), "no options, at least one is needed"),
        (one_button().with_card_action(Link::url("")).into(), "the URL of a link is empty"),
        (VoteInteractionCard::new(CheckBox::new("q", [])).into(), "no options, at least one is needed"),
        (
            VoteInteractionCard::new(CheckBox::new("", [CheckOption::new("a", "b")])).into(),
            "the QuestionKey of the vote is empty",
        ),
        (
            VoteInteractionCard::new(CheckBox::new("q", [CheckOption::new("", "b")])).into(),
            "the id of an option is empty",
        ),
        (vote().with_submit_button(SubmitButton::new("", "k")).into(), "the text of the submit button is empty"),
        (MultipleInteractionCard::new([]).into(), "no selectors, at least one is needed"),
        (MultipleInteractionCard::new(vec![selector(); 4]).into(), "4 selectors, at most 3 are allowed"),
        (
            MultipleInteractionCard::new([selector().with_selected_id("o3")]).into(),
            "the SelectedId of a selector is none of its options",
        ),
    ];
    for (card, rule) in rows {
        assert_eq!(refusal(Reply::update_template_card(card)), rule);
    }
    assert_eq!(refusal(Reply::update_button("")), "ReplaceName is empty");
    assert_eq!(refusal(Reply::update_taskcard("")), "ReplaceName is empty");
}
