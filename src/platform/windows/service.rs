//! This process as a Windows service: the way in from the service controller, and what it is told.
//!
//! All calls of the controller come on threads of its own. Stages that take their time are reported anew each second with
//! a higher checkpoint: a controller that sees none for as long as the hint says takes the service for hung.

use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use windows_service::service::{
    Service, ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{self, ServiceControlHandlerResult, ServiceStatusHandle};
use windows_service::{define_windows_service, service_dispatcher};
use windows_sys::Win32::Foundation::{ERROR_FAILED_SERVICE_CONTROLLER_CONNECT, ERROR_SERVICE_CANNOT_ACCEPT_CTRL};
use windows_sys::Win32::System::Services::{ControlService, SERVICE_CONTROL_PARAMCHANGE, SERVICE_STATUS};

use crate::service::{Failure, Lifecycle, Order, Stage};

/// Between two checkpoints.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// The next checkpoint comes well before.
const WAIT_HINT: Duration = Duration::from_secs(10);

/// What runs as the service.
type Body = Box<dyn FnOnce(Lifecycle) -> Result<(), Failure> + Send>;

/// The controller calls a plain function, which finds here what it is to run.
static BODY: Mutex<Option<Body>> = Mutex::new(None);

define_windows_service!(entry, service_main);

/// Runs `body` as a service if the service controller has started this process, and returns when it has ended; else
/// returns it unused.
///
/// # Errors
/// What the controller says, other than that it has not started us.
pub fn run(body: impl FnOnce(Lifecycle) -> Result<(), Failure> + Send + 'static) -> std::io::Result<Started> {
    *BODY.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(body));
    match service_dispatcher::start("", entry) {
        Ok(()) => Ok(Started::ByController),
        Err(windows_service::Error::Winapi(error))
            if error.raw_os_error() == Some(ERROR_FAILED_SERVICE_CONTROLLER_CONNECT as i32) =>
        {
            Ok(Started::ByHand)
        }
        Err(windows_service::Error::Winapi(error)) => Err(error),
        Err(error) => Err(std::io::Error::other(error)),
    }
}

/// Who has started this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// The service controller; the service has ended by now.
    ByController,
    /// Somebody else.
    ByHand,
}

fn service_main(arguments: Vec<OsString>) {
    let Some(body) = BODY.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let report = Arc::new(Report::default());
    let (lifecycle, orders) = Lifecycle::supervised({
        let report = Arc::clone(&report);
        move |stage| report.enter(stage)
    });
    let name = arguments.into_iter().next().unwrap_or_default();
    // Without a way to the controller there is nobody to serve, nor to tell.
    let Ok(handle) = service_control_handler::register(name, move |control| take(control, &orders)) else { return };
    report.begin(handle);
    let ticker = Arc::clone(&report);
    // Ends with the process, which ends when the last report says that the service has stopped.
    thread::spawn(move || {
        loop {
            thread::sleep(CHECKPOINT_INTERVAL);
            ticker.check_point();
        }
    });
    report.end(body(lifecycle));
}

/// Turns what the controller says into an order. It waits for the answer, so nothing is done here.
fn take(control: ServiceControl, orders: &Sender<Order>) -> ServiceControlHandlerResult {
    let order = match control {
        // Answered by the controller itself with the last report.
        ServiceControl::Interrogate => return ServiceControlHandlerResult::NoError,
        ServiceControl::Stop => Order::End("service stop"),
        ServiceControl::Preshutdown => Order::End("shutdown of the system"),
        ServiceControl::Pause => Order::Pause,
        ServiceControl::Continue => Order::Continue,
        ServiceControl::ParamChange => Order::Reload,
        _ => return ServiceControlHandlerResult::NotImplemented,
    };
    match orders.try_send(order) {
        // The application has ended, which is what it is about.
        Ok(()) | Err(TrySendError::Closed(_)) => ServiceControlHandlerResult::NoError,
        Err(TrySendError::Full(_)) => ServiceControlHandlerResult::Other(ERROR_SERVICE_CANNOT_ACCEPT_CTRL),
    }
}

/// What the controller was told last.
#[derive(Default)]
struct Report(Mutex<Told>);

#[derive(Default)]
struct Told {
    handle: Option<ServiceStatusHandle>,
    stage: Option<Stage>,
    checkpoint: u32,
}

impl Report {
    fn begin(&self, handle: ServiceStatusHandle) {
        self.lock().handle = Some(handle);
        self.enter(Stage::Starting);
    }

    fn enter(&self, stage: Stage) {
        let mut told = self.lock();
        told.stage = Some(stage);
        told.checkpoint = u32::from(is_pending(stage));
        told.send();
    }

    /// Says that it goes on, where something takes its time.
    fn check_point(&self) {
        let mut told = self.lock();
        if told.stage.is_some_and(is_pending) {
            told.checkpoint += 1;
            told.send();
        }
    }

    fn end(&self, result: Result<(), Failure>) {
        let mut told = self.lock();
        told.stage = None;
        told.set(ServiceStatus {
            service_type: ServiceType::OWN_PROCESS,
            current_state: ServiceState::Stopped,
            controls_accepted: ServiceControlAccept::empty(),
            exit_code: match result {
                Ok(()) => ServiceExitCode::NO_ERROR,
                Err(failure) => ServiceExitCode::ServiceSpecific(failure as u32),
            },
            checkpoint: 0,
            wait_hint: Duration::ZERO,
            process_id: None,
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_pending(stage: Stage) -> bool {
    matches!(stage, Stage::Starting | Stage::Stopping { .. })
}

impl Told {
    fn send(&self) {
        let Some(stage) = self.stage else { return };
        let working = ServiceControlAccept::STOP
            | ServiceControlAccept::PRESHUTDOWN
            | ServiceControlAccept::PAUSE_CONTINUE
            | ServiceControlAccept::PARAM_CHANGE;
        let (current_state, controls_accepted) = match stage {
            Stage::Starting => (ServiceState::StartPending, ServiceControlAccept::empty()),
            Stage::Running => (ServiceState::Running, working),
            Stage::Paused => (ServiceState::Paused, working),
            // A second stop ends at once.
            Stage::Stopping { .. } => (ServiceState::StopPending, ServiceControlAccept::STOP),
        };
        self.set(ServiceStatus {
            service_type: ServiceType::OWN_PROCESS,
            current_state,
            controls_accepted,
            exit_code: ServiceExitCode::NO_ERROR,
            checkpoint: self.checkpoint,
            wait_hint: if is_pending(stage) { WAIT_HINT } else { Duration::ZERO },
            process_id: None,
        });
    }

    fn set(&self, status: ServiceStatus) {
        if let Some(handle) = &self.handle
            && let Err(error) = handle.set_service_status(status)
        {
            tracing::error!(%error, "service controller not told");
        }
    }
}

/// Asks a service to load its configuration anew: the one control that `windows-service` cannot send.
///
/// # Errors
/// What the controller says.
pub fn param_change(service: &Service) -> std::io::Result<()> {
    let mut status = SERVICE_STATUS::default();
    // SAFETY: the handle is open for as long as `service` is borrowed; `status` is live, and the call fills it.
    let done = unsafe { ControlService(service.raw_handle(), SERVICE_CONTROL_PARAMCHANGE, &raw mut status) };
    if done != 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
