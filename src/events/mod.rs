//! The typed events: one module per platform, generated from the catalogue.

pub mod im;
pub mod miniprogram;
pub mod mp;
pub mod wecom;
pub mod wecom_kf;
