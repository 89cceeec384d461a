//! `echostr keygen`.

use std::process::ExitCode;

use zeroize::Zeroizing;

use super::Done;
use crate::webhook;

/// Letters and digits: what the consoles accept in tokens and keys.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Print a key that signs what is sent to other servers instead (Standard Webhooks)
    #[arg(long)]
    webhook: bool,
}

pub(super) fn run(arguments: &Arguments) -> Done {
    if arguments.webhook {
        let mut random = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *random)?;
        println!("secret = \"{}\"", webhook::new_key(&random).expose());
        return Ok(ExitCode::SUCCESS);
    }
    println!("token = \"{}\"", random_text(32)?);
    println!("aes_key = \"{}\"", random_text(43)?);
    Ok(ExitCode::SUCCESS)
}

fn random_text(length: usize) -> Result<String, getrandom::Error> {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0; 64];
        getrandom::fill(&mut bytes)?;
        // Bytes above a multiple of the alphabet would make its first letters more likely.
        let fair = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < 62 * 4);
        text.extend(fair.map(|byte| char::from(ALPHABET[byte % 62])).take(length - text.len()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_length_and_letters_of_the_consoles() {
        for length in [32, 43] {
            let text = random_text(length).unwrap();
            assert_eq!(text.len(), length);
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{text}");
            assert_ne!(text, random_text(length).unwrap());
        }
        crate::crypto::EncodingKey::parse(&random_text(43).unwrap()).unwrap();
    }
}
