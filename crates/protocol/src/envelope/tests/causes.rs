//! What `explain` says of how a request came to be wrong.

use super::*;

#[test]
fn an_encoded_echo_is_recognised() {
    let keys = keys(Platform::WeCom, Mode::Safe);
    let request = (0..).map(|at| Sender::new(&keys).url_check("1616140317555161061", NOW, "n", [at; 16]).unwrap());
    let query = request.map(|request| request.unwrap().query).find(|query| query.contains("%2B")).unwrap();
    let (step, detail) = explained(&keys, &query.replace("%2B", "%252B"), None).unwrap();
    let parts = ["it matches once the query is decoded again", "`echostr` is encoded twice"];
    assert!(step == "signature" && parts.iter().all(|part| detail.contains(part)), "{detail}");
    // Also where the token is wrong as well, and where another parameter is meant.
    let other = Keys { tokens: vec![crate::secret::Secret::new("other")], ..keys.clone() };
    let (_, detail) = explained(&other, &query.replace("%2B", "%252B"), None).unwrap();
    assert!(detail.contains("`echostr` is encoded twice") && !detail.contains("it matches"), "{detail}");
    let request = Sender::new(&keys).deliver("<xml></xml>", Form::Xml, None, NOW, "a b", [0; 16]).unwrap();
    let twice = request.query.replace("nonce=a%20b", "nonce=a%2520b").replace("nonce=a b", "nonce=a%2520b");
    let (step, detail) = explained(&keys, &twice, Some(&request.body)).unwrap();
    assert!(
        step == "signature" && detail.contains("`nonce` is encoded twice") && detail.contains("it matches once"),
        "{detail}"
    );
}

/// Whose a request is that another account refuses.
#[test]
fn the_account_whose_token_or_key_fits_is_named() {
    let right = keys(Platform::WeCom, Mode::Safe);
    let im = Keys { tokens: vec![crate::secret::Secret::new("imToken")], ..keys(Platform::Im, Mode::Safe) };
    let wrong_token = Keys { tokens: vec![crate::secret::Secret::new("other")], ..right.clone() };
    let wrong_both = Keys { aes_keys: vec![EncodingKey::parse(&"Z".repeat(43)).unwrap()], ..wrong_token.clone() };
    let wrong_key = Keys { tokens: right.tokens.clone(), ..wrong_both.clone() };
    let sealed = Sender::new(&right).deliver("<xml></xml>", Form::Xml, None, NOW, "n", [0; 16]).unwrap();
    let check = Sender::new(&right).url_check("1616140317555161061", NOW, "n", [3; 16]).unwrap().unwrap();
    let of_im = Sender::new(&im).deliver("{}", Form::Json, Some("A"), NOW, "n", [0; 16]).unwrap();
    let token = "the signature fits the token of wecom/sales";
    let key = "it opens with the AES key of wecom/sales";
    for (asked, query, body, expected) in [
        (&wrong_both, &sealed.query, Some(&*sealed.body), &[token, key][..]),
        (&wrong_key, &sealed.query, Some(&*sealed.body), &[key]),
        (&wrong_both, &check.query, None, &[token, key]),
        (&right, &of_im.query, Some(&*of_im.body), &["the signature fits the token of im/chat"]),
        (&wrong_token, &of_im.query, Some(&*of_im.body), &["the signature fits the token of im/chat"]),
    ] {
        let others = [Neighbour { id: "wecom/sales", keys: &right }, Neighbour { id: "im/chat", keys: &im }];
        let others = others.into_iter().filter(|other| !std::ptr::eq(other.keys, asked));
        let query = Query::parse(query).unwrap();
        let steps = asked.explain_among(&query, body.map(str::as_bytes), NOW, others);
        let fault = steps.last().unwrap();
        assert!(expected.iter().all(|part| fault.detail.contains(part)), "{expected:?}: {fault:?}");
    }
    // Nothing fits, and nothing is said.
    let strange = Sender::new(&wrong_both).deliver("<xml></xml>", Form::Xml, None, NOW, "n", [0; 16]).unwrap();
    let others = [Neighbour { id: "im/chat", keys: &im }];
    let steps = right.explain_among(
        &Query::parse(&strange.query).unwrap(),
        Some(strange.body.as_bytes()),
        NOW,
        others.into_iter(),
    );
    assert!(!steps.last().unwrap().detail.contains("fits"), "{steps:?}");
}

/// Nearly every wrong key shows in the padding, whose bytes are all looked at.
#[test]
fn a_wrong_key_is_named_as_the_cause() {
    let keys = keys(Platform::WeCom, Mode::Safe);
    let request = Sender::new(&keys).deliver("<xml></xml>", Form::Xml, None, NOW, "n", [0; 16]).unwrap();
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    for letter in letters.chars().filter(|letter| *letter != 'K') {
        let other = EncodingKey::parse(&letter.to_string().repeat(43)).unwrap();
        let wrong = Keys { aes_keys: vec![other], ..keys.clone() };
        let (step, detail) = explained(&wrong, &request.query, Some(&request.body)).unwrap();
        let is_named = detail.contains("the EncodingAESKey of the console differs");
        assert_eq!((step, is_named), ("decryption", true), "{letter}: {detail}");
    }
}
