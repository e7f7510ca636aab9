//! The keeper alone, told what the IO and the service would tell it.

use super::*;
use crate::service::HttpService;
use portcullis_middleware::{
    ConnectionInfo,
    connection::{Address, Origin},
    drain::DrainTrigger,
    error::find,
};
use std::future::poll_fn;
use tokio::time::advance;
use tokio_test::{assert_pending, task};

#[tokio::test(start_paused = true)]
async fn each_head_has_its_own_time() {
    let http = HttpService::new(()).with_head_timeout(seconds(10));
    let exchanges = Exchanges::new(ConnectionInfo::new(Address::Unknown, Address::Unknown));
    let mut keeper = Keeper::new(http.settings.clone(), exchanges.clone());
    let mut keeper = task::spawn(poll_fn(|cx| keeper.poll(cx)));
    exchanges.note_read(b"GET");
    assert_pending!(keeper.poll());
    advance(seconds(8)).await;
    let request = exchanges.begin();
    assert_pending!(keeper.poll());
    // In one turn of hyper: the end of the one, the first bytes of the other.
    drop(request);
    exchanges.note_read(b"GET");
    assert_pending!(keeper.poll());
    advance(seconds(9)).await;
    assert_pending!(keeper.poll());
    advance(seconds(2)).await;
    let Poll::Ready(Step::End(Err(error))) = keeper.poll() else {
        panic!("its time is over");
    };
    let phase = find::<Elapsed>(&*error).map(Elapsed::phase);
    assert_eq!(phase, Some(TimeoutPhase::RequestHead));
}

#[tokio::test(start_paused = true)]
async fn each_response_that_is_not_taken_has_its_own_time() {
    let http = HttpService::new(()).with_send_timeout(seconds(10));
    let exchanges = Exchanges::new(ConnectionInfo::new(Address::Unknown, Address::Unknown));
    let mut keeper = Keeper::new(http.settings.clone(), exchanges.clone());
    let mut keeper = task::spawn(poll_fn(|cx| keeper.poll(cx)));
    let requests = [exchanges.begin(), exchanges.begin()];
    let first = requests[0].data();
    assert_pending!(keeper.poll());
    advance(seconds(8)).await;
    // Its client gave it up, and the other is not ready yet.
    drop(first);
    assert_pending!(keeper.poll());
    let _second = requests[1].data();
    assert_pending!(keeper.poll());
    advance(seconds(9)).await;
    assert_pending!(keeper.poll());
    advance(seconds(2)).await;
    assert!(matches!(keeper.poll(), Poll::Ready(Step::End(Err(_)))));
}

#[tokio::test(start_paused = true)]
async fn who_speaks_just_when_it_was_given_up_is_told_of_the_end() {
    let http = HttpService::new(());
    let (drain, exchanges) = draining();
    let mut keeper = Keeper::new(http.settings.clone(), exchanges.clone());
    let mut keeper = task::spawn(poll_fn(|cx| keeper.poll(cx)));
    drain.close();
    assert_pending!(keeper.poll());
    advance(Duration::from_millis(501)).await;
    assert!(matches!(keeper.poll(), Poll::Ready(Step::HangUp)));
    exchanges.note_read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let _request = exchanges.begin();
    assert!(matches!(keeper.poll(), Poll::Ready(Step::Shutdown)));
    assert_pending!(keeper.poll());
}

/// By the real clock: a timer that is late already takes a turn of the runtime there.
#[tokio::test]
async fn who_is_idle_goes_at_once_where_the_last_call_takes_no_time() {
    let http = HttpService::new(()).with_last_call(Duration::ZERO);
    let (drain, exchanges) = draining();
    let mut keeper = Keeper::new(http.settings.clone(), exchanges.clone());
    let mut keeper = task::spawn(poll_fn(|cx| keeper.poll(cx)));
    exchanges.note_read(b"GET");
    drop(exchanges.begin());
    assert_pending!(keeper.poll());
    drain.close();
    assert!(matches!(keeper.poll(), Poll::Ready(Step::Shutdown)));
}

#[tokio::test(start_paused = true)]
async fn who_is_idle_has_the_last_call_whatever_the_timer_was_set_to() {
    let http = HttpService::new(());
    let (drain, exchanges) = draining();
    let mut keeper = Keeper::new(http.settings.clone(), exchanges.clone());
    let mut keeper = task::spawn(poll_fn(|cx| keeper.poll(cx)));
    exchanges.note_read(b"GET");
    drop(exchanges.begin());
    assert_pending!(keeper.poll());
    drain.announce();
    assert_pending!(keeper.poll());
    drain.close();
    assert_pending!(keeper.poll());
    advance(Duration::from_millis(499)).await;
    assert_pending!(keeper.poll());
    advance(Duration::from_millis(2)).await;
    assert!(keeper.is_woken());
    assert!(matches!(keeper.poll(), Poll::Ready(Step::Shutdown)));
}

#[tokio::test(start_paused = true)]
async fn the_time_to_leave_is_the_io_s_own_when_it_lingers() {
    for lingers in [false, true] {
        let http = HttpService::new(()).with_last_call(Duration::ZERO);
        let (drain, exchanges) = draining();
        let mut keeper = Keeper::new(http.settings.clone(), exchanges.clone());
        let mut keeper = task::spawn(poll_fn(|cx| keeper.poll(cx)));
        exchanges.note_read(b"GET");
        drop(exchanges.begin());
        drain.close();
        assert!(matches!(keeper.poll(), Poll::Ready(Step::Shutdown)));
        if lingers {
            exchanges.note_lingering();
        }
        assert_pending!(keeper.poll());
        advance(LEAVE).await;
        let ended = matches!(keeper.poll(), Poll::Ready(Step::End(Ok(()))));
        assert_eq!(ended, !lingers);
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_its_last_response_slowly_has_its_time_again_with_each_frame_in_a_drain_alone() {
    for drains in [false, true] {
        let http = HttpService::new(()).with_idle_timeout(seconds(3));
        let (drain, exchanges) = draining();
        let mut keeper = Keeper::new(http.settings.clone(), exchanges.clone());
        let mut keeper = task::spawn(poll_fn(|cx| keeper.poll(cx)));
        exchanges.note_read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        drop(exchanges.begin());
        assert_pending!(keeper.poll());
        match drains {
            true => drain.close(),
            false => advance(seconds(4)).await,
        }
        assert!(matches!(keeper.poll(), Poll::Ready(Step::Shutdown)));
        for _ in 0..if drains { 9 } else { 1 } {
            assert_pending!(keeper.poll());
            advance(LEAVE - Duration::from_millis(1)).await;
            assert_pending!(keeper.poll());
            exchanges.note_read(b"\0\0\x04\x08\0\0\0\0\0\0\0\x09\0");
        }
        assert_pending!(keeper.poll());
        advance(if drains { LEAVE } else { Duration::ZERO } + Duration::from_millis(2)).await;
        assert!(matches!(keeper.poll(), Poll::Ready(Step::End(Ok(())))));
    }
}

/// The announcement may wake a task that has seen it already.
#[tokio::test]
async fn who_comes_while_the_end_is_announced_hears_of_the_close() {
    for _ in 0..2_000 {
        let http = HttpService::new(());
        let (drain, exchanges) = draining();
        let mut keeper = Keeper::new(http.settings.clone(), exchanges.clone());
        let mut keeper = task::spawn(poll_fn(|cx| keeper.poll(cx)));
        let announced = std::thread::spawn(move || {
            drain.announce();
            drain
        });
        while !exchanges.info.is_draining() {
            std::hint::spin_loop();
        }
        assert_pending!(keeper.poll());
        let drain = announced.join().unwrap();
        assert_pending!(keeper.poll());
        drain.close();
        assert!(keeper.is_woken());
    }
}

/// The exchanges of a connection whose server can be brought to an end.
fn draining() -> (DrainTrigger, Arc<Exchanges>) {
    let (drain, signal) = DrainTrigger::pair();
    let origin = Arc::new(Origin::new().with_drain(signal));
    let info = ConnectionInfo::from_origin(origin, Address::Unknown, Address::Unknown);
    (drain, Exchanges::new(info))
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
