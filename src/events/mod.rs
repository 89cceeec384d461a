//! The typed events: one module per platform, generated from the catalogue.

mod helpers;
pub mod im;
pub mod miniprogram;
pub mod mp;
pub mod wecom;
pub mod wecom_kf;

pub use helpers::ScannedProduct;
