//! The platforms' side, by OpenSSL alone: nothing of echostr signs, encrypts or decrypts here.

use openssl::{
    base64::{decode_block, encode_block},
    hash::{MessageDigest, hash},
    symm::{Cipher, Crypter, Mode},
};

use super::NOW;

/// WeChat or WeCom, as one account knows it.
#[derive(Clone, Copy, Debug)]
pub struct WeChat {
    pub token: &'static str,
    pub aes_key: &'static str,
    pub receive_id: &'static str,
}

/// The query and the body of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub query: String,
    pub body: String,
}

impl WeChat {
    /// SHA-1 over the sorted parts.
    pub fn sign(&self, parts: &[&str]) -> String {
        let mut parts = [&[self.token], parts].concat();
        parts.sort_unstable();
        hex(&hash(MessageDigest::sha1(), parts.concat().as_bytes()).unwrap())
    }

    /// `signature=…&timestamp=…&nonce=…`
    pub fn plain_query(&self, time: &str, nonce: &str) -> String {
        format!("signature={}&timestamp={time}&nonce={nonce}", self.sign(&[time, nonce]))
    }

    /// The query of an encrypted body.
    pub fn sealed_query(&self, sealed: &str, time: &str, nonce: &str) -> String {
        let signature = self.sign(&[time, nonce, sealed]);
        format!("msg_signature={signature}&timestamp={time}&nonce={nonce}&encrypt_type=aes")
    }

    /// A plain delivery.
    pub fn plain(&self, payload: &str, nonce: &str) -> Signed {
        Signed { query: self.plain_query(&NOW.to_string(), nonce), body: payload.to_owned() }
    }

    /// An encrypted delivery, in XML.
    pub fn safe(&self, payload: &str, nonce: &str) -> Signed {
        let sealed = self.encrypt(payload);
        let body = format!("<xml><ToUserName><![CDATA[to]]></ToUserName><Encrypt><![CDATA[{sealed}]]></Encrypt></xml>");
        Signed { query: self.sealed_query(&sealed, &NOW.to_string(), nonce), body }
    }

    /// An encrypted delivery, in JSON.
    pub fn safe_json(&self, payload: &str, nonce: &str) -> Signed {
        let sealed = self.encrypt(payload);
        let body = format!(r#"{{"ToUserName":"to","Encrypt":"{sealed}"}}"#);
        Signed { query: self.sealed_query(&sealed, &NOW.to_string(), nonce), body }
    }

    /// An encrypted delivery in JSON with the names in lower case: to a bot, and as some samples of WeCom have it.
    pub fn safe_bot(&self, payload: &str, nonce: &str) -> Signed {
        let sealed = self.encrypt(payload);
        let body = format!(r#"{{"encrypt":"{sealed}"}}"#);
        Signed { query: self.sealed_query(&sealed, &NOW.to_string(), nonce), body }
    }

    /// Encrypts a message in the layout of the platform.
    pub fn encrypt(&self, message: &str) -> String {
        let rest = [message.as_bytes(), self.receive_id.as_bytes()].concat();
        self.encrypt_raw(u32::try_from(message.len()).unwrap(), &rest)
    }

    /// Encrypts with a length that may be wrong.
    pub fn encrypt_raw(&self, length: u32, rest: &[u8]) -> String {
        let padding = 32 - (20 + rest.len()) % 32;
        self.encrypt_padded(length, rest, padding, u8::try_from(padding).unwrap())
    }

    /// Encrypts with padding that may be wrong.
    pub fn encrypt_padded(&self, length: u32, rest: &[u8], padding: usize, value: u8) -> String {
        let mut plain = b"0123456789abcdef".to_vec();
        plain.extend(length.to_be_bytes());
        plain.extend(rest);
        plain.extend(std::iter::repeat_n(value, padding));
        self.encrypt_blocks(&plain)
    }

    /// Encrypts whole blocks as they are.
    pub fn encrypt_blocks(&self, plain: &[u8]) -> String {
        encode_block(&self.crypt(Mode::Encrypt, plain))
    }

    /// Verifies and decrypts a sealed reply as the platform does; gives the message.
    pub fn open_reply(&self, body: &str) -> String {
        let value = |name: &str| between(body, name);
        let (sealed, time, nonce) = (value("Encrypt"), value("TimeStamp"), value("Nonce"));
        assert_eq!(value("MsgSignature"), self.sign(&[&time, &nonce, &sealed]), "the signature of the reply");
        let plain = self.crypt(Mode::Decrypt, &decode_block(&sealed).unwrap());
        let padding = usize::from(*plain.last().unwrap());
        assert!((1..=32).contains(&padding), "padding of {padding}");
        let plain = &plain[..plain.len() - padding];
        let length = u32::from_be_bytes(plain[16..20].try_into().unwrap()) as usize;
        let (message, receive_id) = plain[20..].split_at(length);
        assert_eq!(receive_id, self.receive_id.as_bytes(), "the receive id of the reply");
        String::from_utf8(message.to_vec()).unwrap()
    }

    fn crypt(&self, mode: Mode, input: &[u8]) -> Vec<u8> {
        let key = decode_block(&format!("{}=", self.aes_key)).unwrap();
        let mut crypter = Crypter::new(Cipher::aes_256_cbc(), mode, &key[..32], Some(&key[..16])).unwrap();
        crypter.pad(false);
        let mut output = vec![0; input.len() + 16];
        let count = crypter.update(input, &mut output).unwrap();
        let rest = crypter.finalize(&mut output[count..]).unwrap();
        output.truncate(count + rest);
        output
    }
}

/// The value of an element or a member, whichever form the text has.
fn between(text: &str, name: &str) -> String {
    if text.starts_with('{') {
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        return match &value[name] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
    }
    let (_, rest) = text.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no {name} in {text}"));
    let (value, _) = rest.split_once(&format!("</{name}>")).unwrap();
    value.trim_start_matches("<![CDATA[").trim_end_matches("]]>").to_owned()
}

/// Tencent IM, as one account knows it.
#[derive(Clone, Copy, Debug)]
pub struct Im {
    pub token: &'static str,
    pub sdk_app_id: u64,
}

impl Im {
    pub fn query(&self, command: &str, time: &str) -> String {
        let sign = hex(&hash(MessageDigest::sha256(), format!("{}{time}", self.token).as_bytes()).unwrap());
        format!(
            "SdkAppid={}&CallbackCommand={command}&contenttype=json&ClientIP=203.0.113.7&OptPlatform=Web\
             &Sign={sign}&RequestTime={time}",
            self.sdk_app_id
        )
    }

    pub fn command(&self, command: &str, body: &str) -> Signed {
        Signed { query: self.query(command, &NOW.to_string()), body: body.to_owned() }
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
