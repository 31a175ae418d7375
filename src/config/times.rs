//! Timeouts, those of the supervisor and those of a worker.

use std::ffi::OsStr;
use std::time::Duration;

use arctos_worker::settings::Timeouts;

use super::Patience;
use super::error::ConfigError;
use super::options::{OptionSpec, Setting};
use super::origin::Origin;
use super::place::{self, Reason};
use super::reader::{Reader, wrong};
use super::value::{Kind, Size, Span};
use crate::system::environment::Environment;

const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);
const TIME: Span = Span { min: MILLISECOND, max: DAY, allows_zero: false };
pub(super) const TIME_OR_ZERO: Span = Span { allows_zero: true, ..TIME };
const RATE: Size = Size { min_bytes: 0, max_bytes: 1 << 30, allows_zero: false };
/// `--drain-delay auto` in Kubernetes, which removes a pod from its endpoints some time after it sends the signal.
const KUBERNETES_DRAIN: Duration = Duration::from_secs(5);
/// The time limit of a quick stop, which is not an option.
const QUICK: Duration = Duration::from_secs(2);
/// The default of `--graceful-timeout` with `--reload`. A stream of events to a browser must not delay the next reload.
const DEVELOPMENT_GRACE: Duration = Duration::from_secs(3);
/// The time limit of a quick stop with `--reload`: for a developer, Ctrl-C ends the server at once.
const DEVELOPMENT_QUICK: Duration = Duration::from_millis(500);

pub(super) fn patience(
    reader: &mut Reader<'_>,
    environment: &Environment,
    is_development: bool,
) -> Result<Patience, ConfigError> {
    let reaction = reader.one(Setting::TimeoutGrace, TIME_OR_ZERO)?;
    let (mut graceful, mut origin) = reader.look_or_default(Setting::GracefulTimeout, &TIME)?;
    if is_development && origin == Origin::Default {
        (graceful, origin) = (DEVELOPMENT_GRACE, Origin::Because(Setting::Reload));
    }
    reader.note(Setting::GracefulTimeout, TIME.show(&graceful), origin);
    let drain_delay = drain_delay(reader, environment, graceful)?;
    let boot = reader.one(Setting::BootTimeout, TIME)?;
    let quick = if is_development { DEVELOPMENT_QUICK } else { QUICK };
    Ok(Patience { reaction, boot, graceful, drain_delay, quick })
}

fn drain_delay(
    reader: &mut Reader<'_>,
    environment: &Environment,
    graceful: Duration,
) -> Result<Duration, ConfigError> {
    let default = OptionSpec::of(Setting::DrainDelay).default.text();
    let default = (OsStr::new(&*default), &Origin::Default);
    let (text, origin) = reader.last(Setting::DrainDelay).unwrap_or(default);
    if text.eq_ignore_ascii_case("auto") {
        let is_kubernetes = environment.value("KUBERNETES_SERVICE_HOST").is_some();
        // At most half of the time for the stop: requests need the other half.
        let delay = if is_kubernetes { KUBERNETES_DRAIN.min(graceful / 2) } else { Duration::ZERO };
        let origin = if is_kubernetes { Origin::Place(Reason::Kubernetes) } else { origin.clone() };
        reader.note(Setting::DrainDelay, format!("auto ({})", TIME.show(&delay)), origin);
        return Ok(delay);
    }
    let delay = text.to_str().and_then(|text| TIME_OR_ZERO.read(text)).ok_or_else(|| {
        wrong(Setting::DrainDelay, origin, text, format!("auto, or {}", TIME_OR_ZERO.expected()))
    })?;
    if delay >= graceful {
        return Err(ConfigError::DelayTooLong {
            origin: origin.clone(),
            text: text.to_string_lossy().into_owned(),
            graceful: TIME.show(&graceful),
        });
    }
    reader.note(Setting::DrainDelay, TIME.show(&delay), origin.clone());
    Ok(delay)
}

fn keep_alive(reader: &mut Reader<'_>, environment: &Environment) -> Result<Duration, ConfigError> {
    let is_given = reader.given(Setting::KeepAlive).is_some();
    let Some((time, reason)) = place::keep_alive(environment).filter(|_| !is_given) else {
        return reader.one(Setting::KeepAlive, TIME);
    };
    reader.note(Setting::KeepAlive, TIME.show(&time), Origin::Place(reason));
    Ok(time)
}

pub(super) fn timeouts(
    reader: &mut Reader<'_>,
    environment: &Environment,
) -> Result<Timeouts, ConfigError> {
    let keep_alive = keep_alive(reader, environment)?;
    let head = reader.one(Setting::HeaderTimeout, TIME)?;
    let body = reader.one(Setting::BodyTimeout, TIME)?;
    let rate_bytes = u128::from(reader.one(Setting::BodyMinRate, RATE)?);
    let window_bytes = rate_bytes * body.as_millis() / 1000;
    Ok(Timeouts {
        head,
        body,
        body_rate_bytes: u64::try_from(window_bytes).expect("1 GB/s for a day fits 64 bits"),
        keep_alive,
        write: reader.one(Setting::WriteTimeout, TIME)?,
        queue: Some(reader.one(Setting::MaxQueueTime, TIME_OR_ZERO)?).filter(|it| !it.is_zero()),
        slow: Some(reader.one(Setting::SlowRequest, TIME_OR_ZERO)?).filter(|it| !it.is_zero()),
        linger: Timeouts::DEFAULT.linger,
        linger_total: Timeouts::DEFAULT.linger_total,
    })
}
