use std::cell::Cell;

use super::*;

/// What names are asked for while so many are entered and found.
fn looks(names: &[String], find: impl Fn(usize) -> String) -> usize {
    let looks = Cell::new(0);
    let name_of = |at: usize| {
        looks.set(looks.get() + 1);
        names[at].as_str()
    };
    let mut index = Index::default();
    (0..names.len()).for_each(|at| index.enter(at, name_of));
    for at in 0..names.len() {
        let name = find(at);
        assert_eq!(index.find(&name, name_of), names.iter().position(|other| *other == name), "{name}");
    }
    looks.get()
}

/// The work grows with the list and no faster, whether the names are there or not.
#[test]
fn a_name_is_compared_with_few_others() {
    for count in [100, 400, 1_600] {
        let names: Vec<_> = (0..count).map(|at| format!("From_Account{at:08}")).collect();
        let there = looks(&names, |at| names[at].clone());
        let absent = looks(&names, |at| format!("To_Account__{at:08}"));
        assert!(there <= 4 * count && absent <= 4 * count, "{there}, {absent} of {count}");
        let same = vec!["a".to_owned(); count];
        assert!(looks(&same, |_| "a".to_owned()) <= 4 * count);
    }
}

#[test]
fn the_first_of_a_name_is_found() {
    let names = ["b", "a", "b", "", "a"];
    let mut index = Index::default();
    (0..names.len()).for_each(|at| index.enter(at, |at| names[at]));
    let find = |name| index.find(name, |at| names[at]);
    assert_eq!((find("a"), find("b"), find(""), find("c"), index.len()), (Some(1), Some(0), Some(3), None, 3));
}
