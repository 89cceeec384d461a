//! The typed events: one module per platform, generated from the catalogue.

mod helpers;
pub mod im;
pub mod miniprogram;
pub mod mp;
pub mod openplatform;
pub mod wecom;
pub mod wecom_bot;
pub mod wecom_kf;
pub mod wecom_suite;

pub use helpers::ScannedProduct;
