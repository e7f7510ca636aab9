//! Each key is in a test.

use std::{collections::BTreeSet, fs, path::Path};

/// Tests, by file and name, with the keys without which they fail. The files are in `tests/program`, or in the program.
const TESTS: &[(&str, &[&str])] = &[
    (
        "keys/process.rs::a_file_of_another_version_is_rejected",
        &["version"],
    ),
    (
        "reload.rs::an_included_file_is_read_from_the_folder_of_the_program_s_own",
        &["include"],
    ),
    (
        "keys/process.rs::a_number_of_workers_is_that_of_the_threads",
        &["process", "process.workers"],
    ),
    (
        "watch.rs::a_changed_file_is_reloaded_without_a_signal",
        &["process.watch"],
    ),
    (
        "upgrade.rs::a_new_process_takes_over_while_old_connections_go_on",
        &["process.upgrade-socket"],
    ),
    (
        "keys/process.rs::connections_are_accepted_while_the_shutdown_is_announced",
        &["drain", "drain.announce"],
    ),
    (
        "shutdown.rs::connections_that_are_open_at_the_deadline_are_cut_and_the_exit_code_tells",
        &["drain.deadline"],
    ),
    (
        "log.rs::a_reload_changes_the_format_of_the_next_line",
        &["log", "log.format"],
    ),
    (
        "log.rs::a_reload_changes_the_level_and_where_access_lines_go",
        &["log.level", "log.access"],
    ),
    (
        "admin/access.rs::reads_on_loopback_are_open_and_changes_need_the_token",
        &["admin", "admin.token-file"],
    ),
    (
        "admin/access.rs::the_unix_socket_needs_no_token",
        &["admin.listen"],
    ),
    (
        "admin/access.rs::everything_can_be_protected_but_probes_and_the_page",
        &["admin.protect"],
    ),
    (
        "admin/status.rs::the_status_says_where_the_token_is",
        &["admin.token"],
    ),
    (
        "admin/reload.rs::token_protection_hosts_and_kept_endings_change_on_open_connections",
        &["admin.hosts", "admin.endings"],
    ),
    (
        "admin/certificates.rs::the_interface_speaks_tls",
        &["admin.tls"],
    ),
    (
        "shutdown.rs::idle_connections_end_before_the_deadline_if_that_is_configured",
        &["defaults", "listener.timeouts.drain-idle"],
    ),
    (
        "keys/tls.rs::the_listed_certificates_are_shown_by_name_and_a_single_one_to_all",
        &[
            "certificate",
            "certificate.name",
            "certificate.chain",
            "certificate.key",
            "listener.tls.certificates",
        ],
    ),
    (
        "keys/tls.rs::the_response_of_an_authority_is_stapled",
        &["certificate.ocsp"],
    ),
    (
        "reload.rs::a_listener_that_is_added_listens_and_a_removed_one_ends_gracefully",
        &["listener", "listener.listen"],
    ),
    (
        "log.rs::each_connection_has_one_line_with_its_facts",
        &["listener.name", "backend.name"],
    ),
    (
        "reload.rs::new_connections_get_the_new_backend_and_old_ones_keep_theirs",
        &["backend", "backend.servers", "listener.backend"],
    ),
    (
        "recheck.rs::a_reload_closes_those_whom_the_new_access_list_denies",
        &["listener.recheck"],
    ),
    (
        "keys/limits.rs::a_client_beyond_the_limit_is_refused",
        &["listener.limits.connections", "listener.limits.when-full"],
    ),
    (
        "keys/limits.rs::a_client_waits_as_long_as_the_listener_says",
        &["when-full.wait"],
    ),
    (
        "keys/limits.rs::one_client_waits_and_further_ones_are_refused",
        &["when-full.at-most"],
    ),
    (
        "handshakes.rs::beyond_the_limit_the_oldest_unfinished_handshake_is_reset",
        &["listener.limits.handshakes"],
    ),
    (
        "keys/per_client.rs::a_client_has_its_number_of_connections_and_another_client_the_same",
        &["listener.per-client.connections"],
    ),
    (
        "keys/per_client.rs::a_client_connects_as_often_as_its_rate_says",
        &["listener.per-client.rate"],
    ),
    (
        "keys/per_client.rs::a_burst_of_connections_is_larger_or_smaller_than_the_rate",
        &["listener.per-client.burst"],
    ),
    (
        "keys/per_client.rs::clients_of_one_ipv6_network_share_what_one_client_may_have",
        &["listener.per-client.ipv6-prefix"],
    ),
    (
        "keys/per_client.rs::a_client_is_refused_by_a_close_or_a_reset",
        &["listener.per-client.refuse"],
    ),
    (
        "keys/per_client.rs::limits_that_are_only_observed_admit_and_are_logged",
        &["listener.per-client.observe"],
    ),
    (
        "keys/bandwidth.rs::each_connection_has_its_rate_after_the_burst",
        &["listener.bandwidth.per-connection"],
    ),
    (
        "keys/bandwidth.rs::all_connections_of_the_listener_share_the_total",
        &["listener.bandwidth.total"],
    ),
    (
        "keys/bandwidth.rs::a_burst_passes_at_full_speed",
        &["listener.bandwidth.burst"],
    ),
    (
        "keys/access.rs::lists_admit_and_deny_networks_in_the_file_and_in_files_of_their_own",
        &[
            "listener.access.allow",
            "listener.access.allow-file",
            "listener.access.deny",
            "listener.access.deny-file",
        ],
    ),
    (
        "keys/access.rs::a_client_is_refused_by_a_close_or_a_reset",
        &["listener.access.refuse"],
    ),
    (
        "keys/access.rs::a_list_that_is_only_observed_admits_and_is_logged",
        &["listener.access.observe"],
    ),
    (
        "keys/timeouts.rs::a_trusted_proxy_that_is_silent_reaches_proxy_header",
        &["listener.timeouts.proxy-header"],
    ),
    (
        "keys/timeouts.rs::a_client_by_whose_bytes_no_route_is_chosen_yet_reaches_client_hello",
        &["listener.timeouts.client-hello"],
    ),
    (
        "keys/timeouts.rs::a_client_that_does_not_request_tls_reaches_prelude",
        &["listener.prelude", "listener.timeouts.prelude"],
    ),
    (
        "keys/timeouts.rs::a_client_that_begins_no_handshake_reaches_handshake",
        &["listener.timeouts.handshake"],
    ),
    (
        "keys/timeouts.rs::a_client_that_sends_no_byte_reaches_first_byte",
        &["listener.timeouts.first-byte"],
    ),
    (
        "keys/timeouts.rs::a_connection_on_which_both_sides_are_silent_reaches_idle",
        &["listener.timeouts.idle"],
    ),
    (
        "keys/timeouts.rs::a_client_that_reads_nothing_reaches_write",
        &["listener.timeouts.write"],
    ),
    (
        "keys/timeouts.rs::a_server_that_is_silent_after_the_end_of_the_client_reaches_half_closed",
        &["listener.timeouts.half-closed"],
    ),
    (
        "keys/timeouts.rs::a_connection_in_use_reaches_lifetime",
        &["listener.timeouts.lifetime"],
    ),
    (
        "keys/timeouts.rs::the_lifetimes_of_connections_differ_by_the_jitter",
        &["listener.timeouts.lifetime-jitter"],
    ),
    (
        "keys/throughput.rs::a_client_that_sends_little_ends_where_its_bytes_count_alone",
        &[
            "listener.throughput.min",
            "listener.throughput.over",
            "listener.throughput.direction",
        ],
    ),
    (
        "keys/throughput.rs::a_slow_connection_that_is_only_observed_goes_on_and_is_logged",
        &["listener.throughput.observe"],
    ),
    (
        "keys/proxy_protocol.rs::headers_are_required_optional_or_data",
        &["listener.proxy-protocol.mode"],
    ),
    (
        "keys/proxy_protocol.rs::proxies_are_trusted_by_the_list_and_by_the_file",
        &[
            "listener.proxy-protocol.trust",
            "listener.proxy-protocol.trust-file",
        ],
    ),
    (
        "keys/proxy_protocol.rs::clients_that_are_no_proxies_are_refused_or_served_directly",
        &["listener.proxy-protocol.untrusted"],
    ),
    (
        "keys/tls.rs::clients_get_a_protocol_that_is_offered",
        &["listener.tls.alpn"],
    ),
    (
        "config/tests.rs::a_wrong_value_of_a_listener_is_reported_with_what_to_write",
        &["listener.tls.required"],
    ),
    (
        "keys/tls.rs::clients_of_an_older_version_are_rejected",
        &["listener.tls.min-version"],
    ),
    (
        "handshakes.rs::a_certificate_whose_names_are_unreadable_or_unlisted_is_rejected",
        &["listener.tls.client.auth", "listener.tls.client.allow"],
    ),
    (
        "configurations.rs::only_the_listed_identities_reach_a_service_behind_mutual_tls",
        &["listener.tls.client.roots"],
    ),
    (
        "recheck.rs::a_client_that_is_revoked_is_closed_without_a_reload",
        &["listener.tls.client.crl"],
    ),
    (
        "keys/tls.rs::sessions_are_resumed_wherever_the_keys_of_tickets_are_the_same",
        &["listener.tls.tickets.keys-file"],
    ),
    (
        "configurations.rs::one_port_terminates_one_name_passes_another_and_serves_ssh",
        &[
            "listener.route.names",
            "listener.route.protocol",
            "listener.route.pass",
            "listener.route.backend",
        ],
    ),
    (
        "keys/tls.rs::a_route_without_a_backend_closes_or_resets",
        &["listener.route.refuse"],
    ),
    (
        "keys/balance.rs::servers_take_turns_whatever_they_have",
        &["backend.balance"],
    ),
    (
        "keys/servers.rs::a_server_that_does_not_end_its_handshake_is_given_up",
        &["backend.connect-timeout"],
    ),
    (
        "reload.rs::a_removed_server_drains_although_another_setting_changes_with_it",
        &["backend.drain"],
    ),
    (
        "keys/servers.rs::without_a_healthy_server_clients_are_refused_or_all_servers_tried",
        &["backend.when-none-healthy"],
    ),
    (
        "keys/balance.rs::servers_have_connections_by_their_weight",
        &["backend.server.address", "backend.server.weight"],
    ),
    (
        "keys/balance.rs::a_backup_is_used_while_no_other_server_can_be_used",
        &["backend.server.backup"],
    ),
    (
        "keys/balance.rs::a_client_waits_while_each_server_has_its_connections",
        &["backend.server.max-connections"],
    ),
    (
        "forwarding.rs::the_server_gets_the_address_of_the_client_in_a_proxy_header",
        &["backend.proxy-protocol.version"],
    ),
    (
        "keys/servers.rs::servers_get_the_listed_fields_of_the_header",
        &["backend.proxy-protocol.send"],
    ),
    (
        "keys/servers.rs::servers_are_offered_protocols",
        &["backend.tls.alpn", "backend.tls.name", "backend.tls.roots"],
    ),
    (
        "backend_tls.rs::a_certificate_is_shown_to_servers_and_renewed_while_the_program_runs",
        &["backend.tls.certificate"],
    ),
    (
        "backend_tls.rs::servers_that_start_tls_on_request_greet_clients_of_every_kind",
        &["backend.tls.prelude"],
    ),
    (
        "keys/health.rs::servers_are_checked_by_a_connect_unless_checks_are_off",
        &["backend.health"],
    ),
    (
        "keys/health.rs::a_request_has_the_path_and_its_answer_one_of_the_statuses",
        &["backend.health.http", "backend.health.expect"],
    ),
    (
        "backend_tls.rs::a_server_to_which_tls_is_passed_through_is_checked_over_tls_of_its_own",
        &[
            "backend.health.tls",
            "backend.health.tls.name",
            "backend.health.tls.roots",
        ],
    ),
    (
        "keys/health.rs::texts_are_sent_and_expected",
        &["backend.health.send"],
    ),
    (
        "keys/health.rs::checks_go_to_their_port",
        &["backend.health.port"],
    ),
    (
        "keys/health.rs::checks_have_their_interval",
        &["backend.health.interval"],
    ),
    (
        "keys/health.rs::a_check_that_is_not_answered_fails_at_its_timeout",
        &["backend.health.timeout"],
    ),
    (
        "keys/health.rs::a_server_is_down_after_failed_checks_in_a_row",
        &["backend.health.fall"],
    ),
    (
        "keys/health.rs::a_server_is_up_after_good_checks_in_a_row",
        &["backend.health.rise"],
    ),
    (
        "admin/forced.rs::a_server_that_fails_its_checks_or_is_taken_down",
        &["backend.health.on-down"],
    ),
    (
        "default_certificate.rs::clients_without_a_known_name_get_the_default_certificate_or_an_alert",
        &["listener.tls.default"],
    ),
    (
        "health_tls.rs::a_check_shows_its_certificate_to_a_server_that_clients_reach_untouched",
        &["backend.health.tls.certificate"],
    ),
    (
        "health_tls.rs::a_check_requests_tls_and_offers_its_protocols",
        &["backend.health.tls.alpn", "backend.health.tls.prelude"],
    ),
    (
        "admin/trust.rs::a_list_that_is_out_of_date_rejects_clients_and_is_reported_everywhere",
        &["listener.tls.client.crl-outdated"],
    ),
    (
        "servers.rs::a_unix_socket_has_the_mode_of_the_file",
        &["admin.socket-mode", "listener.socket-mode"],
    ),
    (
        "keys/buffers.rs::a_side_that_stops_reading_stops_the_other_one_once_the_buffers_of_the_kernel_are_full",
        &[
            "listener.receive-buffer",
            "listener.send-buffer",
            "backend.receive-buffer",
            "backend.send-buffer",
        ],
    ),
    (
        "servers.rs::clients_wait_for_a_full_server_as_long_and_as_many_as_configured",
        &["backend.queue.timeout", "backend.queue.length"],
    ),
    (
        "admin/backends.rs::a_check_names_the_host_that_a_server_chooses_by",
        &["backend.health.host"],
    ),
];

/// Each key has a row there, which a test of the program compares with what a reload knows.
const PAGE: &str = include_str!("../../../src/bin/portcullis/configuration.md");

#[test]
fn each_key_is_in_a_test() {
    let rows = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let keys: BTreeSet<_> = rows.map(|(key, _)| key).collect();
    let tested: Vec<_> = TESTS.iter().flat_map(|(_, keys)| *keys).copied().collect();
    let once: BTreeSet<_> = tested.iter().copied().collect();
    assert_eq!(once.len(), tested.len(), "a key is listed twice");
    let untested: Vec<_> = keys.difference(&once).collect();
    assert!(untested.is_empty(), "in no test: {untested:?}");
    let unknown: Vec<_> = once.difference(&keys).collect();
    assert!(unknown.is_empty(), "no keys: {unknown:?}");
}

#[test]
fn the_listed_tests_exist_and_name_their_keys() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (test, keys) in TESTS {
        let (file, name) = test.split_once("::").expect("a file and a name");
        let folders = [program.join("../../../tests/program"), program.to_owned()];
        let paths = folders.map(|folder| folder.join(file));
        let path = paths.iter().find(|path| path.exists());
        let text = fs::read_to_string(path.expect(file)).expect(file);
        let is_test = |line: &str| line.contains("fn ") && line.contains(&format!(" {name}("));
        assert!(text.lines().any(is_test), "{file} has no test {name}");
        // Those of examples are in other files.
        for key in keys.iter().filter(|_| file.starts_with("keys/")) {
            let (_, word) = key.rsplit_once('.').unwrap_or(("", key));
            assert!(text.contains(word), "{file} does not name {key}");
        }
    }
}
