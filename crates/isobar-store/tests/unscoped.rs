//! Forgetting whose rows are meant, or making up a scope, does not build.
#![allow(missing_docs, reason = "tests")]

#[test]
fn a_query_without_a_scope_does_not_build() {
    trybuild::TestCases::new().compile_fail("tests/unscoped/*.rs");
}
