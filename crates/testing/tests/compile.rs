//! The natural mistakes with handlers, and what the compiler says of each: it has to name the cause.
//!
//! After a change of the messages, or of the compiler: `TRYBUILD=overwrite cargo test -p echostr-testing --test compile`,
//! and read what has changed.

#[test]
fn the_compiler_names_the_cause_of_a_wrong_handler() {
    trybuild::TestCases::new().compile_fail("tests/compile/*.rs");
}
