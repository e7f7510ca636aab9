//! Tests of the supervisor alone, which play the I/O object and the service.

use super::*;
use crate::service::HttpService;
use portcullis_middleware::{
    ConnectionInfo,
    connection::{Address, ListenerInfo},
    drain::DrainTrigger,
    error::find,
    testing::info,
};
use std::future::poll_fn;
use tokio::time::advance;
use tokio_test::{assert_pending, task};

#[tokio::test(start_paused = true)]
async fn each_head_has_its_own_time() {
    let http = HttpService::new(()).with_head_timeout(seconds(10));
    let activity = Activity::new(info());
    let mut supervisor = Supervisor::new(http.settings.clone(), activity.clone());
    let mut supervisor = task::spawn(poll_fn(|cx| supervisor.poll(cx)));
    activity.note_read(b"GET");
    assert_pending!(supervisor.poll());
    advance(seconds(8)).await;
    let request = activity.begin();
    assert_pending!(supervisor.poll());
    // In one turn of hyper, one request ends and the first bytes of the next arrive.
    drop(request);
    activity.note_read(b"GET");
    assert_pending!(supervisor.poll());
    advance(seconds(9)).await;
    assert_pending!(supervisor.poll());
    advance(seconds(2)).await;
    let Poll::Ready(SupervisorAction::End(Err(error))) = supervisor.poll() else {
        panic!("its time is over");
    };
    let phase = find::<Elapsed>(&*error).map(Elapsed::phase);
    assert_eq!(phase, Some(phase::REQUEST_HEAD));
}

#[tokio::test(start_paused = true)]
async fn each_response_that_is_not_taken_has_its_own_time() {
    let http = HttpService::new(()).with_send_timeout(seconds(10));
    let activity = Activity::new(info());
    let mut supervisor = Supervisor::new(http.settings.clone(), activity.clone());
    let mut supervisor = task::spawn(poll_fn(|cx| supervisor.poll(cx)));
    let requests = [activity.begin(), activity.begin()];
    let first = requests[0].data();
    assert_pending!(supervisor.poll());
    advance(seconds(8)).await;
    // Its client cancelled it, and the other is not ready yet.
    drop(first);
    assert_pending!(supervisor.poll());
    let _second = requests[1].data();
    assert_pending!(supervisor.poll());
    advance(seconds(9)).await;
    assert_pending!(supervisor.poll());
    advance(seconds(2)).await;
    assert!(matches!(
        supervisor.poll(),
        Poll::Ready(SupervisorAction::End(Err(_)))
    ));
}

#[tokio::test(start_paused = true)]
async fn who_speaks_just_when_it_was_given_up_is_told_of_the_end() {
    let http = HttpService::new(());
    let (drain, activity) = draining();
    let mut supervisor = Supervisor::new(http.settings.clone(), activity.clone());
    let mut supervisor = task::spawn(poll_fn(|cx| supervisor.poll(cx)));
    drain.close();
    assert_pending!(supervisor.poll());
    advance(Duration::from_millis(501)).await;
    assert!(matches!(
        supervisor.poll(),
        Poll::Ready(SupervisorAction::HangUp)
    ));
    activity.note_read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let _request = activity.begin();
    assert!(matches!(
        supervisor.poll(),
        Poll::Ready(SupervisorAction::Shutdown)
    ));
    assert_pending!(supervisor.poll());
}

/// In real time, because there an expired timer takes a turn of the runtime.
#[tokio::test]
async fn who_is_idle_goes_at_once_where_the_last_call_takes_no_time() {
    let http = HttpService::new(()).with_idle_grace_period(Duration::ZERO);
    let (drain, activity) = draining();
    let mut supervisor = Supervisor::new(http.settings.clone(), activity.clone());
    let mut supervisor = task::spawn(poll_fn(|cx| supervisor.poll(cx)));
    activity.note_read(b"GET");
    drop(activity.begin());
    assert_pending!(supervisor.poll());
    drain.close();
    assert!(matches!(
        supervisor.poll(),
        Poll::Ready(SupervisorAction::Shutdown)
    ));
}

#[tokio::test(start_paused = true)]
async fn who_is_idle_has_the_last_call_whatever_the_timer_was_set_to() {
    let http = HttpService::new(());
    let (drain, activity) = draining();
    let mut supervisor = Supervisor::new(http.settings.clone(), activity.clone());
    let mut supervisor = task::spawn(poll_fn(|cx| supervisor.poll(cx)));
    activity.note_read(b"GET");
    drop(activity.begin());
    assert_pending!(supervisor.poll());
    drain.notify();
    assert_pending!(supervisor.poll());
    drain.close();
    assert_pending!(supervisor.poll());
    advance(Duration::from_millis(499)).await;
    assert_pending!(supervisor.poll());
    advance(Duration::from_millis(2)).await;
    assert!(supervisor.is_woken());
    assert!(matches!(
        supervisor.poll(),
        Poll::Ready(SupervisorAction::Shutdown)
    ));
}

#[tokio::test(start_paused = true)]
async fn the_time_to_leave_is_the_io_s_own_when_it_lingers() {
    for lingers in [false, true] {
        let http = HttpService::new(()).with_idle_grace_period(Duration::ZERO);
        let (drain, activity) = draining();
        let mut supervisor = Supervisor::new(http.settings.clone(), activity.clone());
        let mut supervisor = task::spawn(poll_fn(|cx| supervisor.poll(cx)));
        activity.note_read(b"GET");
        drop(activity.begin());
        drain.close();
        assert!(matches!(
            supervisor.poll(),
            Poll::Ready(SupervisorAction::Shutdown)
        ));
        if lingers {
            activity.note_lingering();
        }
        assert_pending!(supervisor.poll());
        advance(LEAVE).await;
        let ended = matches!(
            supervisor.poll(),
            Poll::Ready(SupervisorAction::End(Ok(())))
        );
        assert_eq!(ended, !lingers);
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_its_last_response_slowly_has_its_time_again_with_each_frame_in_a_drain_alone() {
    for drains in [false, true] {
        let http = HttpService::new(()).with_idle_timeout(seconds(3));
        let (drain, activity) = draining();
        let mut supervisor = Supervisor::new(http.settings.clone(), activity.clone());
        let mut supervisor = task::spawn(poll_fn(|cx| supervisor.poll(cx)));
        activity.note_read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        drop(activity.begin());
        assert_pending!(supervisor.poll());
        match drains {
            true => drain.close(),
            false => advance(seconds(4)).await,
        }
        assert!(matches!(
            supervisor.poll(),
            Poll::Ready(SupervisorAction::Shutdown)
        ));
        for _ in 0..if drains { 9 } else { 1 } {
            assert_pending!(supervisor.poll());
            advance(LEAVE - Duration::from_millis(1)).await;
            assert_pending!(supervisor.poll());
            activity.note_read(b"\0\0\x04\x08\0\0\0\0\0\0\0\x09\0");
        }
        assert_pending!(supervisor.poll());
        advance(if drains { LEAVE } else { Duration::ZERO } + Duration::from_millis(2)).await;
        assert!(matches!(
            supervisor.poll(),
            Poll::Ready(SupervisorAction::End(Ok(())))
        ));
    }
}

/// The notice may wake a task that has already observed it.
#[tokio::test]
async fn who_comes_while_the_end_is_announced_hears_of_the_close() {
    for _ in 0..2_000 {
        let http = HttpService::new(());
        let (drain, activity) = draining();
        let mut supervisor = Supervisor::new(http.settings.clone(), activity.clone());
        let mut supervisor = task::spawn(poll_fn(|cx| supervisor.poll(cx)));
        let announced = std::thread::spawn(move || {
            drain.notify();
            drain
        });
        while !activity.info.is_draining() {
            std::hint::spin_loop();
        }
        assert_pending!(supervisor.poll());
        let drain = announced.join().unwrap();
        assert_pending!(supervisor.poll());
        drain.close();
        assert!(supervisor.is_woken());
    }
}

/// The activity of a connection whose server can be shut down.
fn draining() -> (DrainTrigger, Arc<Activity>) {
    let (drain, signal) = DrainTrigger::pair();
    let origin = Arc::new(ListenerInfo::new().with_drain(signal));
    let info = ConnectionInfo::from_listener(origin, Address::Unknown, Address::Unknown);
    (drain, Activity::new(info))
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
