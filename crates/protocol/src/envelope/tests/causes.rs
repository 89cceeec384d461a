//! What `explain` says of how a request came to be wrong.

use super::*;

#[test]
fn an_encoded_echo_is_recognised() {
    let keys = keys(Platform::WeCom, Mode::Safe);
    let request = (0..).map(|at| Sender::new(&keys).url_check("1616140317555161061", NOW, "n", [at; 16]).unwrap());
    let query = request.map(|request| request.unwrap().query).find(|query| query.contains("%2B")).unwrap();
    let (step, detail) = explained(&keys, &query.replace("%2B", "%252B"), None).unwrap();
    assert_eq!((step, detail.contains("encodes it twice")), ("signature", true), "{detail}");
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
