use super::*;

const BEGIN: &str = "<!-- options:begin -->\n";
const END: &str = "<!-- options:end -->";

/// `ARCTOS_BLESS=1 cargo test -p arctos --lib --no-default-features table_of_options` rewrites the table.
#[test]
fn the_guide_holds_the_table_of_options() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/options.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (table, after) = rest.split_once(END).unwrap();
    if std::env::var_os("ARCTOS_BLESS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}\n{}\n{END}{after}", markdown())).unwrap();
        return;
    }
    assert_eq!(table, format!("\n{}\n", markdown()), "run this test with ARCTOS_BLESS=1");
}

#[test]
fn names_letters_and_variables_are_given_once() {
    for (index, option) in OPTIONS.iter().enumerate() {
        for other in &OPTIONS[..index] {
            assert_ne!(option.setting, other.setting, "{}", option.long);
            assert_ne!(option.variable(), other.variable());
            assert!(option.short.is_none() || option.short != other.short, "{}", option.long);
        }
    }
}

#[test]
fn no_variable_is_one_that_kubernetes_sets_for_a_service_named_arctos() {
    for option in OPTIONS {
        let variable = option.variable();
        for theirs in ["ARCTOS_PORT", "ARCTOS_SERVICE_"] {
            assert!(!variable.starts_with(theirs), "{variable}");
        }
    }
}

#[test]
fn a_bar_in_a_value_does_not_end_a_cell() {
    assert!(markdown().contains("`--header-map drop\\|refuse` |"));
}
