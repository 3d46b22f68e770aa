//! The service in Windows' database: what `plimsoll service …` does.
//!
//! Installing is idempotent: it sets everything anew, whether the service was there or not.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use windows_service::service::{
    Service, ServiceAccess, ServiceAction, ServiceActionType, ServiceDependency, ServiceErrorControl, ServiceExitCode,
    ServiceFailureActions, ServiceFailureResetPeriod, ServiceInfo, ServiceSidType, ServiceStartType, ServiceState,
    ServiceStatus, ServiceType,
};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_INVALID_LEVEL, ERROR_SERVICE_ALREADY_RUNNING, ERROR_SERVICE_DOES_NOT_EXIST,
    ERROR_SERVICE_NOT_ACTIVE,
};

use crate::config::load::load;
use crate::config::model::Config;
use crate::platform;

/// What is done when the service ends by itself: another try after so long, and reset after a day.
const RECOVERY: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];
const RECOVERY_RESET: Duration = Duration::from_secs(86_400);

/// What a shutdown of the system allows beyond `linger` and `drain_timeout`.
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(10);

/// How long a start may take beyond what the configuration says, and how long a change of state may take at all.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);

const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Why nothing, or not all, was done; in a sentence for the operator.
#[derive(Debug)]
pub struct ServiceError(String);

impl std::fmt::Display for ServiceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

type Result<T> = std::result::Result<T, ServiceError>;

/// What to install.
#[derive(Debug, Clone)]
pub struct Install {
    /// Its name in the database.
    pub name: String,
    /// Its name for people.
    pub display_name: String,
    /// The configuration that it runs with.
    pub config: PathBuf,
    /// The account that it runs as. `None`: its own virtual account, which has no rights but those it is given.
    pub account: Option<String>,
    /// Whether it starts some minutes after the system.
    pub delayed: bool,
    /// Services that must run before it.
    pub depends: Vec<String>,
}

impl Install {
    fn account(&self) -> String {
        self.account.clone().unwrap_or_else(|| format!(r"NT SERVICE\{}", self.name))
    }

    fn is_local_system(&self) -> bool {
        self.account.as_deref().is_some_and(|account| account.eq_ignore_ascii_case("LocalSystem"))
    }

    fn info(&self, config: PathBuf) -> Result<ServiceInfo> {
        let program = std::env::current_exe().map_err(|error| explain("find this program", &self.name, &error))?;
        Ok(ServiceInfo {
            name: OsString::from(&self.name),
            display_name: OsString::from(&self.display_name),
            service_type: ServiceType::OWN_PROCESS,
            start_type: ServiceStartType::AutoStart,
            error_control: ServiceErrorControl::Normal,
            executable_path: program,
            launch_arguments: vec!["run".into(), "--config".into(), config.into()],
            dependencies: self.depends.iter().map(|name| ServiceDependency::Service(name.into())).collect(),
            account_name: (!self.is_local_system()).then(|| self.account().into()),
            account_password: None,
        })
    }
}

/// Installs the service, or sets it anew, and says what was set.
///
/// # Errors
/// If the configuration has a mistake, or Windows refuses.
pub fn install(wanted: &Install) -> Result<String> {
    let loaded = load(&wanted.config).map_err(|rejected| ServiceError(rejected.to_string()))?;
    let name = wanted.name.as_str();
    // A service's working folder is System32.
    let config =
        std::path::absolute(&wanted.config).map_err(|error| explain("find the configuration", name, &error))?;
    let info = wanted.info(config.clone())?;
    let manager = manager(ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE, name)?;
    let (service, done) = match manager.open_service(name, ServiceAccess::ALL_ACCESS) {
        Ok(service) => {
            service.change_config(&info).map_err(|error| refused("change", name, error))?;
            (service, "set anew")
        }
        Err(error) if is(&error, ERROR_SERVICE_DOES_NOT_EXIST) => {
            let created = manager.create_service(&info, ServiceAccess::ALL_ACCESS);
            (created.map_err(|error| refused("install", name, error))?, "installed")
        }
        Err(error) => return Err(refused("open", name, error)),
    };
    let mut said = format!("service {name} {done}\n");
    said += &format!("  program        {} run --config {}\n", info.executable_path.display(), config.display());
    said += &format!("  account        {}\n", wanted.account());
    said += &set_up(&service, wanted, &loaded.config)?;
    if loaded.config.log.file.is_none() {
        said +=
            "warning: the configuration has no `[log] file`: a service has no standard output, so nothing is logged\n";
    }
    if wanted.is_local_system() {
        said += "warning: LocalSystem may do anything on this machine; without `--account` it runs as an account of its own\n";
    }
    for warning in &loaded.warnings {
        _ = writeln!(said, "{warning}");
    }
    Ok(said)
}

/// What is no part of the entry itself.
fn set_up(service: &Service, wanted: &Install, config: &Config) -> Result<String> {
    let name = wanted.name.as_str();
    let runtime = &config.runtime;
    let preshutdown = runtime.linger + runtime.drain_timeout + SHUTDOWN_MARGIN;
    let restart = |delay: &Duration| ServiceAction { action_type: ServiceActionType::Restart, delay: *delay };
    let recovery = ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(RECOVERY_RESET),
        reboot_msg: None,
        command: None,
        actions: Some(RECOVERY.iter().map(restart).collect()),
    };
    let start = if wanted.delayed { "automatic, some minutes after the system's" } else { "automatic" };
    let steps = [
        ("description", "as `plimsoll help` has it".to_owned(), service.set_description(env!("CARGO_PKG_DESCRIPTION"))),
        ("start", start.to_owned(), service.set_delayed_auto_start(wanted.delayed)),
        (
            "recovery",
            "restart after 1 s, 5 s, 30 s; reset after a day".to_owned(),
            service.update_failure_actions(recovery),
        ),
        (
            "recovery also",
            "for exits that are no crashes".to_owned(),
            service.set_failure_actions_on_non_crash_failures(true),
        ),
        ("service SID", "unrestricted".to_owned(), service.set_config_service_sid_info(ServiceSidType::Unrestricted)),
        (
            "shutdown",
            format!("waits for {} s (linger, drain_timeout and 10 s)", preshutdown.as_secs()),
            service.set_preshutdown_timeout(preshutdown),
        ),
    ];
    let mut said = String::new();
    for (what, text, result) in steps {
        match result {
            Ok(()) => _ = writeln!(said, "  {what:<14} {text}"),
            // Wine, and systems that are older than the setting.
            Err(error) if is(&error, ERROR_INVALID_LEVEL) => {
                _ = writeln!(said, "  {what:<14} not set: this system does not know it");
            }
            Err(error) => return Err(refused("set up", name, error)),
        }
    }
    Ok(said)
}

/// Stops the service if it runs, and removes it. A service that is not there is no error.
///
/// # Errors
/// If Windows refuses.
pub fn uninstall(name: &str) -> Result<String> {
    let manager = manager(ServiceManagerAccess::CONNECT, name)?;
    let access = ServiceAccess::QUERY_STATUS | ServiceAccess::STOP | ServiceAccess::DELETE;
    let service = match manager.open_service(name, access) {
        Ok(service) => service,
        Err(error) if is(&error, ERROR_SERVICE_DOES_NOT_EXIST) => return Ok(format!("service {name} is not there\n")),
        Err(error) => return Err(refused("open", name, error)),
    };
    halt(&service, name)?;
    service.delete().map_err(|error| refused("remove", name, error))?;
    Ok(format!("service {name} removed; its configuration and logs are left\n"))
}

/// Starts the service, and waits until it serves.
///
/// # Errors
/// If it does not start, with its exit code.
pub fn start(name: &str) -> Result<String> {
    let service = open(name, ServiceAccess::START | ServiceAccess::QUERY_STATUS)?;
    match service.start::<&OsStr>(&[]) {
        Ok(()) => {}
        Err(error) if is(&error, ERROR_SERVICE_ALREADY_RUNNING) => return Ok(format!("service {name} runs already\n")),
        Err(error) => return Err(refused("start", name, error)),
    }
    let status = settled(&service, name)?;
    if status.current_state == ServiceState::Running {
        return Ok(format!("service {name} runs\n"));
    }
    Err(ServiceError(format!("service {name} did not start: {}", exit_text(&status.exit_code))))
}

/// Stops the service, and waits until what was in flight is finished.
///
/// # Errors
/// If it does not stop.
pub fn stop(name: &str) -> Result<String> {
    let service = open(name, ServiceAccess::STOP | ServiceAccess::QUERY_STATUS)?;
    halt(&service, name)?;
    Ok(format!("service {name} stopped\n"))
}

/// Stops it if it runs, then starts it.
///
/// # Errors
/// As [`stop`] and [`start`].
pub fn restart(name: &str) -> Result<String> {
    stop(name)?;
    start(name)
}

/// Asks the service to load its configuration anew. How it went stands in its log and in `plimsoll status`.
///
/// # Errors
/// If it does not run, or Windows refuses.
pub fn reload(name: &str) -> Result<String> {
    let service = open(name, ServiceAccess::PAUSE_CONTINUE | ServiceAccess::QUERY_STATUS)?;
    platform::service::param_change(&service).map_err(|error| explain("reload", name, &error))?;
    Ok(format!("service {name} was told to reload; its log says how it went\n"))
}

fn halt(service: &Service, name: &str) -> Result<()> {
    match service.stop() {
        Ok(_) => {}
        Err(error) if is(&error, ERROR_SERVICE_NOT_ACTIVE) => return Ok(()),
        Err(error) => return Err(refused("stop", name, error)),
    }
    let status = settled(service, name)?;
    if status.current_state == ServiceState::Stopped {
        return Ok(());
    }
    Err(ServiceError(format!("service {name} did not stop: it is {:?}", status.current_state)))
}

/// Waits until the service is in a state that stays. As long as its checkpoint moves, it goes on.
fn settled(service: &Service, name: &str) -> Result<ServiceStatus> {
    let (mut checkpoint, mut deadline) = (0, Instant::now() + CHANGE_TIMEOUT);
    loop {
        let status = service.query_status().map_err(|error| refused("ask for", name, error))?;
        let pending = matches!(status.current_state, ServiceState::StartPending | ServiceState::StopPending);
        if !pending {
            return Ok(status);
        }
        if status.checkpoint != checkpoint {
            checkpoint = status.checkpoint;
            deadline = Instant::now() + CHANGE_TIMEOUT;
        }
        if Instant::now() >= deadline {
            let (state, seconds) = (status.current_state, CHANGE_TIMEOUT.as_secs());
            return Err(ServiceError(format!("service {name} is {state:?} and has not moved for {seconds} s")));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

fn exit_text(code: &ServiceExitCode) -> String {
    match code {
        ServiceExitCode::ServiceSpecific(1) => {
            "its configuration has a mistake; `plimsoll check FILE` shows it".to_owned()
        }
        ServiceExitCode::ServiceSpecific(2) => "it cannot have an address; its log says who has it".to_owned(),
        ServiceExitCode::ServiceSpecific(3) => "it cannot write its log: has its account the right to?".to_owned(),
        ServiceExitCode::ServiceSpecific(code) => format!("exit code {code}; its log says why"),
        ServiceExitCode::Win32(code) => io::Error::from_raw_os_error(*code as i32).to_string(),
    }
}

fn manager(access: ServiceManagerAccess, name: &str) -> Result<ServiceManager> {
    ServiceManager::local_computer(None::<&str>, access).map_err(|error| refused("manage", name, error))
}

fn open(name: &str, access: ServiceAccess) -> Result<Service> {
    let manager = manager(ServiceManagerAccess::CONNECT, name)?;
    manager.open_service(name, access).map_err(|error| refused("open", name, error))
}

fn is(error: &windows_service::Error, code: u32) -> bool {
    matches!(error, windows_service::Error::Winapi(error) if error.raw_os_error() == Some(code as i32))
}

fn refused(what: &str, name: &str, error: windows_service::Error) -> ServiceError {
    match error {
        windows_service::Error::Winapi(error) => explain(what, name, &error),
        error => ServiceError(format!("cannot {what} service {name}: {error}")),
    }
}

fn explain(what: &str, name: &str, error: &io::Error) -> ServiceError {
    let code = error.raw_os_error().unwrap_or_default() as u32;
    ServiceError(match code {
        ERROR_ACCESS_DENIED => {
            format!("cannot {what} service {name}: this needs the rights of an administrator (`Run as administrator`)")
        }
        ERROR_SERVICE_DOES_NOT_EXIST => format!("there is no service {name}; `plimsoll service install` makes it"),
        ERROR_SERVICE_NOT_ACTIVE => format!("cannot {what} service {name}: it does not run"),
        _ => format!("cannot {what} service {name}: {error}"),
    })
}

/// What the controller says of the service.
///
/// # Errors
/// If there is none, or Windows refuses.
pub fn status(name: &str) -> Result<(ServiceState, String)> {
    let service = open(name, ServiceAccess::QUERY_STATUS | ServiceAccess::QUERY_CONFIG)?;
    let status = service.query_status().map_err(|error| refused("ask for", name, error))?;
    let config = service.query_config().map_err(|error| refused("ask for", name, error))?;
    let mut said =
        format!("service {name} ({}) is {:?}\n", Path::new(&config.display_name).display(), status.current_state);
    if let Some(process) = status.process_id.filter(|process| *process != 0) {
        said += &format!("  process        {process}\n");
    }
    if status.current_state == ServiceState::Stopped && status.exit_code != ServiceExitCode::NO_ERROR {
        said += &format!("  ended because  {}\n", exit_text(&status.exit_code));
    }
    said += &format!("  program        {}\n", config.executable_path.display());
    said += &format!("  start          {:?}\n", config.start_type);
    let account = config.account_name.unwrap_or_else(|| "LocalSystem".into());
    said += &format!("  account        {}\n", Path::new(&account).display());
    Ok((status.current_state, said))
}
