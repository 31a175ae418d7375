//! Hooks: functions of the application, each MODULE:FUNCTION, called in the order in which they are given.

use arctos_worker::settings::{HookName, Hooks};

use super::SERVER_NAME;
use super::app_name::{app_name, is_dotted_name};
use super::error::{AppNameError, ConfigError};
use super::options::Setting;
use super::origin::Origin;
use super::reader::Reader;

const FORM: &str = "MODULE:FUNCTION, two dotted names, such as shop.hooks:connect";

/// Reads the names of all hooks. The process that calls a hook looks it up.
///
/// Errors: [`ConfigError::Value`]; [`ConfigError::NeedsPreload`], because without a zygote no process could call the
/// hooks of `--pre-fork`: the supervisor runs no application code.
pub(super) fn hooks(
    reader: &mut Reader<'_>,
    preload: bool,
    name: Option<&str>,
) -> Result<Hooks, ConfigError> {
    let on_start = names(reader, Setting::OnStart)?;
    let pre_fork = names(reader, Setting::PreFork)?;
    if let (Some((text, origin)), false) = (reader.last(Setting::PreFork), preload) {
        let (text, origin) = (text.to_string_lossy().into_owned(), origin.clone());
        return Err(ConfigError::NeedsPreload { setting: Setting::PreFork, origin, text });
    }
    Ok(Hooks {
        on_start,
        pre_fork,
        post_fork: names(reader, Setting::PostFork)?,
        worker_ready: names(reader, Setting::WorkerReady)?,
        worker_exit: names(reader, Setting::WorkerExit)?,
        server_name: name.unwrap_or(SERVER_NAME).to_owned(),
    })
}

fn names(reader: &mut Reader<'_>, setting: Setting) -> Result<Vec<HookName>, ConfigError> {
    let names = reader.many(setting, hook_name)?;
    let shown: Vec<_> = names.iter().map(HookName::to_string).collect();
    let origin = reader.given(setting).map_or(Origin::Default, |given| given.origin.clone());
    reader.note(setting, shown.join(", "), origin);
    Ok(names)
}

/// Reads the name of one hook.
///
/// Errors: what was expected.
fn hook_name(text: &str) -> Result<HookName, String> {
    let (module, attribute) = text.trim().split_once(':').ok_or(FORM)?;
    // The path of a file is the most common mistake. The answer is the same as for the application.
    if let Err(error @ AppNameError::File(_)) = app_name(text, false) {
        return Err(error.to_string().replacen("expected ", "", 1));
    }
    match is_dotted_name(module) && is_dotted_name(attribute) {
        true => Ok(HookName { module: module.to_owned(), attribute: attribute.to_owned() }),
        false => Err(FORM.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;
    use crate::system::environment::Environment;

    fn read(options: &[(Setting, &[&str])]) -> Result<Hooks, ConfigError> {
        let application = (Setting::Application, vec!["shop:app".into()]);
        let values = |values: &[&str]| values.iter().map(Into::into).collect();
        let given = options.iter().map(|(setting, it)| (*setting, values(it)));
        let source = Source::of_command_line(given.chain([application]), Environment::default());
        Ok(source?.read()?.application.hooks)
    }

    fn shown(names: &[HookName]) -> Vec<String> {
        names.iter().map(HookName::to_string).collect()
    }

    #[test]
    fn hooks_keep_their_order() {
        let names: &[&str] = &["shop.hooks:first", "shop:Pool.open"];
        let hooks = read(&[(Setting::PostFork, names), (Setting::Name, &["shop"])]).unwrap();
        assert_eq!(shown(&hooks.post_fork), ["shop.hooks:first", "shop:Pool.open"]);
        assert_eq!(hooks.server_name, "shop");
        assert_eq!(hooks, Hooks { post_fork: hooks.post_fork.clone(), ..hooks.clone() });
    }

    #[test]
    fn commas_separate_hooks_in_a_variable() {
        let variables = [("ARCTOS_APP", "shop:app"), ("ARCTOS_WORKER_EXIT", "shop:a, shop:b")];
        let source = Source::of_command_line([], variables.into_iter().collect()).unwrap();
        let hooks = source.read().unwrap().application.hooks;
        assert_eq!(shown(&hooks.worker_exit), ["shop:a", "shop:b"]);
    }

    #[test]
    fn a_text_that_names_no_function_is_refused_with_an_example() {
        for text in ["shop", "shop:", ":connect", "shop:connect()", "shop:a b", "1shop:a"] {
            let error = read(&[(Setting::OnStart, &[text])]).unwrap_err();
            let expected = format!("--on-start '{text}': expected {FORM}");
            assert_eq!((error.to_string(), error.exit_code()), (expected, 2));
        }
        let error = read(&[(Setting::OnStart, &["shop/hooks.py:connect"])]).unwrap_err();
        let expected = "--on-start 'shop/hooks.py:connect': expected a module, not a file: \
                        write --chdir shop hooks:connect";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn pre_fork_needs_preload() {
        let error = read(&[(Setting::PreFork, &["shop:hook"])]).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.exit_code()),
            (
                "--pre-fork 'shop:hook': requires --preload, because only its zygote runs application code \
                 before a fork; without it, use --post-fork or --on-start",
                2
            )
        );
        let hooks = read(&[(Setting::PreFork, &["shop:hook"]), (Setting::Preload, &["on"])]);
        assert_eq!(shown(&hooks.unwrap().pre_fork), ["shop:hook"]);
    }
}
