//! What the fuzz targets start from: the samples of the catalogue, in the form that each target reads.

use std::collections::BTreeMap;

use echostr_catalog::platforms;

/// The seeds of every target, by their path: `xml/mp.message.text`.
///
/// # Errors
/// When a file of the catalogue cannot be read.
pub fn seeds() -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut seeds = BTreeMap::new();
    for (at, platform) in (0_u8..).zip(platforms()) {
        for entry in echostr_catalog::platform(platform).map_err(|error| error.to_string())?.event {
            let samples = [&entry.sample_xml, &entry.sample_json].into_iter().flatten().chain(&entry.samples_more);
            for (number, sample) in samples.enumerate() {
                let name = format!("{}.{number}", entry.id);
                let sample = sample.trim();
                let form = if sample.starts_with('<') { "xml" } else { "json" };
                seeds.insert(format!("{form}/{name}"), sample.into());
                // The platform, no command of the query.
                seeds.insert(format!("read/{name}"), [&[at, 0], sample.as_bytes()].concat());
                // A delivery, which is one of five inputs; the mode differs.
                if number == 0 {
                    let mode = (entry.fields.len() % 8) as u8;
                    seeds.insert(format!("envelope/{name}"), [&[at, mode, 4], sample.as_bytes()].concat());
                }
            }
            if let Some(command) = entry.select.get("CallbackCommand") {
                let query = format!(
                    "SdkAppid=1400000000&CallbackCommand={command}&contenttype=json&ClientIP=203.0.113.7&OptPlatform=Web&Sign=00&RequestTime=1735689600&RequestID=r%2D1"
                );
                seeds.insert(format!("query/{}", entry.id), query.into());
            }
        }
    }
    // The other inputs of the envelope: a query and a body, a signed body, a cipher text, what a cipher text uncovers.
    let opened = [&[b'r'; 16][..], &[0, 0, 0, 2], b"{}wx1", &[7; 7]].concat();
    let anything =
        b"msg_signature=00&timestamp=1735689600&nonce=n&echostr=e&encrypt_type=aes\n<xml><Encrypt>AAAA</Encrypt></xml>";
    for (what, rest) in [(0, &anything[..]), (1, b"{}"), (2, &[0; 32]), (3, &opened)] {
        for (at, platform) in (0_u8..).zip(platforms()) {
            seeds.insert(format!("envelope/{platform}.{what}"), [&[at, what, what], rest].concat());
        }
    }
    for (at, query) in [
        "signature=00&timestamp=1735689600&nonce=n",
        "echostr=a%2Bb+c&msg_signature=%30",
        "C%61llbackCommand=a&b=&=c&&",
    ]
    .into_iter()
    .enumerate()
    {
        seeds.insert(format!("query/{at}"), query.into());
    }
    Ok(seeds)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_target_and_platform_has_seeds() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the repository");
        let seeds = seeds().unwrap();
        for target in ["envelope", "json", "query", "read", "xml"] {
            assert!(seeds.keys().any(|path| path.starts_with(&format!("{target}/"))), "{target}");
            assert!(root.join(format!("fuzz/fuzz_targets/{target}.rs")).is_file(), "{target}");
        }
        for platform in platforms() {
            let of = format!("read/{platform}.");
            assert!(seeds.keys().any(|path| path.starts_with(&of)), "{platform}");
        }
    }
}
