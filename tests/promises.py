"""The promises of the project, and the tests that prove them: `docs/reference/promises.md`.

A test is named by its function, so that it may move; several tests of one file by the file's path.
`python -m tests.generated` finds them and writes the page. A test that is renamed is renamed here.
"""

PROMISES: dict[str, dict[str, tuple[str, ...]]] = {
    "Mail": {
        "A mail is written with the change that causes it, and never without": (
            "test_a_mail_is_written_with_what_causes_it_and_with_it_alone",
        ),
        "Two replicas send each mail once, and none is lost when one is killed": (
            "test_two_processes_send_each_mail_once",
            "test_a_process_that_is_killed_while_it_sends_loses_no_mail_and_repeats_none_it_wrote_down",
            "test_a_process_that_ends_as_it_is_told_to_repeats_none",
        ),
        "A mail is sent twice only where the server's acknowledgement was lost": (
            "test_a_connection_cut_after_the_final_dot_is_the_only_reason_to_send_again",
            "test_an_acknowledged_mail_is_not_sent_again_when_the_database_is_away_meanwhile",
            "test_a_clock_that_jumps_makes_no_process_send_its_own_mail_twice",
            "test_a_process_that_cant_renew_in_time_cancels_the_delivery",
        ),
        "Content is encrypted until it is sent, then gone; no column and no log has an address": (
            "test_no_column_but_the_sealed_body_tells_of_address_name_or_link",
            "test_neither_log_nor_last_error_has_an_address_or_a_link",
            "test_a_mail_is_delivered_once_and_its_content_is_dropped",
        ),
        "An address with an account and one without are asked for by the same work": (
            "test_what_is_asked_for_is_one_row_whoever_has_the_address",
        ),
        "At most five mails an hour go to one address, notices besides": (
            "test_five_an_hour_go_to_an_address_however_it_is_written_and_notices_besides",
            "test_only_what_became_a_mail_counts",
            "test_mails_that_are_tried_again_count_too",
            "test_what_strangers_ask_for_leaves_two_mails_an_hour_for_resets",
        ),
        "Mails and the login go over TLS to a server that the system trusts, or not at all": (
            "test_a_mail_and_the_login_go_over_tls",
            "test_a_server_that_the_system_does_not_trust_gets_nothing",
            "test_without_starttls_nothing_is_said_to_the_server",
        ),
        "A silent server or recipient holds up no other": (
            "test_a_silent_recipient_holds_up_no_other",
        ),
        "No name or link injects HTML or headers into a mail": (
            "test_hostile_values_inject_neither_html_nor_headers",
            "test_an_address_that_no_header_can_hold_is_given_up_at_once",
        ),
    },
    "Sign-in by a browser": {
        "A client's tokens have what was asked ∩ consented ∩ in its ceiling ∩ granted": (
            "test_scopes_are_asked_and_consented_and_in_the_ceiling_and_granted",
        ),
        "A lowered ceiling, a deleted client and a withdrawn consent count at once, everywhere": (
            "test_every_replica_stops_at_once_when_a_ceiling_falls_a_client_goes_or_a_consent",
            "test_a_lowered_ceiling_narrows_tokens_that_were_issued",
            "test_deleting_a_client_ends_its_tokens_codes_and_refresh_tokens",
            "test_a_revoked_grant_and_a_withdrawn_consent_end_it",
        ),
        "Nothing is sent to a redirect URI that is not the client's": (
            "test_nothing_is_ever_sent_to_a_redirect_uri_that_is_not_registered",
            "test_an_unknown_client_is_a_page_and_never_a_redirect",
        ),
        "Of fifty redemptions of a code at once one succeeds, and a later one ends the session": (
            "test_of_fifty_redemptions_at_once_one_wins_and_a_later_one_ends_it",
        ),
        "A code is good for its client, redirect URI, verifier and browser alone": (
            "test_a_code_is_good_for_what_it_was_issued_for_alone_and_a_wrong_try_changes_nothing",
            "test_signing_out_of_the_browser_voids_its_codes_and_leaves_tokens",
        ),
        "A consent is given on our own page, by the person who saw it, for the request shown": (
            "tests/pages/test_consent.py",
        ),
        "The sign-in page refuses like the token endpoint, and tells no more": (
            "test_words_and_status_tell_nothing_of_which_names_exist",
            "test_the_page_and_the_token_endpoint_have_one_budget_of_failures",
        ),
        "A password changed on our page ends all other sessions, and voids a copy of the cookie": (
            "test_a_changed_password_counts_and_ends_all_sessions_but_this_browsers",
            "test_a_copy_of_the_cookie_is_void_after_a_changed_password",
        ),
        "The account page shows and ends the person's own sessions alone": (
            "test_the_page_lists_the_sessions_that_the_api_lists_and_marks_its_own",
            "test_the_domain_ends_no_session_of_another_person_whatever_the_form_says",
        ),
        "A logo or template that can't be used stops the start": (
            "test_a_logo_that_is_none_stops_the_start",
            "test_a_template_that_is_wrong_stops_the_start",
        ),
        "The pages work without JavaScript, on a phone and by the keyboard": (
            "tests/system/test_sign_in_in_browser.py",
        ),
        "An ID token says who signed in, when and how, and is no access token": (
            "test_an_id_token_says_who_signed_in_when_and_how",
            "test_an_id_token_is_no_access_token",
        ),
        "A token for one service has its scopes alone, and no other takes it": (
            "test_a_token_for_a_resource_names_it_and_has_its_scopes_alone",
            "test_our_own_routes_refuse_a_token_for_another_service",
        ),
        "Signing out at an application's wish goes back to registered addresses alone": (
            "test_nothing_is_sent_to_an_address_that_is_not_registered",
            "test_an_address_counts_for_the_client_that_has_registered_it_alone",
        ),
        "No caller registers or changes a client that may do more than they hold": (
            "test_nobody_registers_a_client_beyond_what_they_hold",
            "test_nobody_changes_or_deletes_a_client_beyond_what_they_hold",
            "test_nobody_raises_a_ceiling_beyond_what_they_hold",
        ),
    },
    "Scopes and revocation": {
        "A token's scopes are requested ∩ granted": (
            "test_scopes_are_requested_intersected_with_granted",
        ),
        "A revoked grant stops a token already issued": (
            "test_revoked_grant_stops_a_token_already_issued",
        ),
        "A disabled user is refused at once": (
            "test_disabled_user_is_refused_with_a_token_already_issued",
        ),
        "A grant's end stops a token already issued, also when the end is moved": (
            "test_a_grant_and_its_end_bite_at_once_on_a_token_already_out",
        ),
        "A sign-out counts for the next request to the same replica": (
            "test_whoever_signs_out_here_and_asks_here_next_is_refused",
        ),
        "What one replica revokes, another refuses": (
            "test_what_one_replica_revokes_the_other_refuses",
        ),
        "Behind the proxy and PgBouncer, what one of three replicas revokes all refuse": (
            "test_three_replicas_share_the_work_and_refuse_what_one_of_them_revokes",
        ),
        "A request with a cached token runs no SQL": (
            "test_a_remembered_request_opens_no_session_takes_no_connection_and_runs_no_sql",
        ),
        "No permission outlives the bound, whatever happens to the change feed": (
            "test_no_permission_outlives_the_bound_while_the_feed_is_killed_again_and_again",
            "tests/db/test_changes.py",
        ),
        "Every answer was true at some moment of its request": (
            "test_every_answer_was_true_while_it_was_asked_for",
        ),
        "Replicas agree on what has expired, although their clocks differ": (
            "test_replicas_whose_clocks_are_ten_minutes_apart_agree",
        ),
        "Without a database, every answer is 503 and no request passes": (
            "test_without_a_database_every_answer_is_503_and_never_a_pass",
        ),
        "A missing, disabled or altered trigger is noticed, and `migrate` repairs it": (
            "test_a_trigger_that_is_off_gone_or_altered_is_noticed_and_put_back",
        ),
        "A change made while a trigger was off is not missed": (
            "test_what_changed_between_two_looks_while_a_trigger_was_off_is_heard",
        ),
        "A planned reconnection of the feed keeps the cache and misses no change": (
            "test_a_planned_reconnection_forgets_nothing_and_misses_no_change",
        ),
        "A full connection pool leaves the feed fresh": (
            "test_a_pool_that_is_full_for_longer_than_the_bound_leaves_the_feed_fresh",
        ),
        "A change that a logical-replication subscription applies is heard": (
            "test_what_a_subscription_applies_is_heard",
        ),
        "One statement over many users' rows sends one notification for each user": (
            "test_a_statement_over_the_rows_of_many_users_is_heard_once_a_user",
        ),
    },
    "Other services": {
        "Each change is told by its type, whatever program makes it": (
            "tests/events/test_what_happened.py",
        ),
        "A beat never covers a change that was not sent": (
            "test_a_beat_never_covers_a_transaction_that_is_still_open",
            "test_every_beat_and_every_resumption_is_complete_while_transactions_overlap_them",
        ),
        "Between two points to resume from nothing is missed, on any replica": (
            "test_whatever_happens_nothing_is_missed_between_two_points_to_resume_from",
            "test_another_replica_goes_on_where_the_first_has_stopped",
        ),
        "A planned reconnection of the feed is not heard by streams": (
            "test_a_planned_reconnection_forgets_nothing_and_misses_no_change",
        ),
        "A stream that is too slow, or whose feed had a gap, is told to forget everything": (
            "test_a_reader_that_is_too_slow_gets_everything_and_goes_on",
            "test_a_feed_that_is_lost_and_comes_back_in_time_is_everything",
        ),
        "A stream ends with its own token, session or grant": (
            "test_the_streams_own_token_expires",
            "test_a_stream_ends_at_once_when_its_own_caller_may_no_longer_follow",
        ),
        "A stream that proves nothing any more ends": (
            "test_a_stream_that_nothing_proves_any_more_is_lost",
            "test_a_stream_that_told_the_time_by_a_clock_that_was_set_is_lost",
        ),
        "No stream holds a shutdown up": (
            "test_at_a_shutdown_the_last_frame_is_bye_and_nothing_waits_for_it",
            "test_a_stream_that_is_stuck_holds_no_shutdown_up",
        ),
        "HAProxy and nginx pass on each frame at once, to any reader of server-sent events": (
            "test_each_frame_comes_through_before_the_next_is_sent",
        ),
        "100 streams of one process hear of 1,000 changes a second, and cost bounded memory": (
            "test_a_thousand_changes_a_second_reach_each_of_100_streams_in_their_order",
            "test_what_100_streams_that_take_nothing_cost_is_bounded",
        ),
        "10,000 grants that one statement changes are told, or are `everything`": (
            "test_ten_thousand_grants_changed_at_once_are_all_told_or_are_everything",
        ),
        "Introspection never answers from memory": (
            "test_introspection_never_answers_from_memory",
        ),
        "An access token ends with the grants behind its scopes": (
            "test_an_access_token_expires_with_the_first_grant_behind_its_scopes",
        ),
    },
    "Other services, with scopegate-client": {
        "What Scopegate takes away stops counting in another service": (
            "test_what_scopegate_takes_away_stops_counting_in_the_other_service",
            "test_ten_thousand_grants_that_one_statement_takes_away_all_stop_counting",
            "test_an_mcp_server_takes_a_token_until_scopegate_takes_it_away",
            "test_one_command_starts_both_and_what_scopegate_takes_away_is_refused",
        ),
        "No permission outlives the bound, whatever the network does": (
            "test_a_permission_that_was_taken_away_before_the_bound_is_never_honoured",
            "test_through_random_faults_nothing_is_lost_let_in_or_answered_by_a_500",
        ),
        "No proxy that buffers or repeats the stream makes the client believe that it is fresh": (
            "test_no_proxy_that_buffers_or_repeats_beats_makes_the_client_believe_that_it_is_fresh",
            "test_a_proxy_that_repeats_an_old_stream_is_not_believed",
        ),
        "While the stream is fresh, requests with tokens ask Scopegate nothing": (
            "test_while_fresh_a_thousand_requests_of_many_tokens_ask_scopegate_nothing",
        ),
        "Without a stream and without introspection, nothing passes": (
            "test_without_a_stream_and_without_introspection_nothing_passes",
        ),
        "A new kind of event is never missed by an older client": (
            "test_an_unknown_type_has_the_tokens_of_its_subject_introspected",
            "test_an_event_whose_subject_cant_be_told_counts_as_everything",
        ),
        "The protocol suffices to write a client in another language": (
            "tests/examples/test_node_client.py",
        ),
        "The clock of the service's machine does not matter": (
            "test_the_clock_of_this_machine_does_not_matter",
        ),
    },
    "Tokens and sessions": {
        "No token passes that differs from an issued one": ("tests/fuzz/test_tokens.py",),
        "A token has one spelling": ("test_a_token_has_one_spelling",),
        "Concurrent uses of a refresh token get one successor": (
            "test_fifty_uses_of_one_refresh_token_at_once_give_one_successor",
        ),
        "An ended session gives nothing, and an honest client is never signed out": (
            "tests/tokens/test_session_machine.py",
        ),
        "After a lost answer, a client may repeat a refresh for a minute": (
            "test_by_default_a_lost_answer_can_be_asked_for_again_for_a_minute",
        ),
        "Time without a database does not count towards the grace": (
            "test_time_in_which_the_database_is_gone_does_not_count",
            "test_the_time_before_a_restart_of_all_replicas_does_not_count",
        ),
        "A thief within the grace is noticed": (
            "test_a_thief_who_follows_every_refresh_within_the_grace_is_noticed_each_time",
        ),
        "A forged refresh token causes no query": ("test_forged_refresh_tokens_cause_no_query",),
        "A dump of the database holds nothing that can be presented": (
            "test_a_dump_of_the_database_holds_nothing_that_can_be_presented",
        ),
        "All sessions of a user end at once, however many there are": (
            "test_however_many_sessions_a_user_has_all_end_at_once_and_are_heard_once",
        ),
        "A person has a limited number of live sessions": (
            "test_a_person_has_so_many_live_sessions_and_no_more",
        ),
        "A personal access token does no more than its owner may, and nothing to their account": (
            "test_a_token_never_outgrows_what_its_owner_is_granted",
            "test_a_token_has_no_scope_that_the_calling_token_lacks",
            "test_a_token_makes_no_token_and_changes_nothing_of_its_owners_account",
            "test_a_route_that_lets_any_token_change_ones_own_account_stops_start_up",
        ),
        "A personal access token survives a change of one's own password, and no other end": (
            "test_a_token_survives_a_change_of_ones_own_password_and_nothing_else",
            "test_a_token_that_is_made_in_the_instant_of_an_end_ends_or_comes_after_it",
        ),
        "A personal access token that is revoked while it is in use is refused on every replica": (
            "test_a_personal_token_that_is_revoked_while_it_is_in_use_is_refused_on_both",
            "test_a_personal_token_counts_in_the_other_service_until_it_is_taken_away",
        ),
        "A personal access token with a wrong checksum causes no query": (
            "test_a_remembered_token_asks_the_database_nothing_and_a_wrong_checksum_neither",
        ),
        "A key rotation under load refuses no request": (
            "test_a_rotation_under_load_refuses_no_request",
        ),
    },
    "The life of an account": {
        "An account that a person makes works once its address is confirmed, or goes": (
            "test_an_account_works_once_its_address_is_confirmed",
            "test_an_account_that_was_never_confirmed_is_erased_after_a_week",
        ),
        "No answer tells whether an address has an account": (
            "test_known_and_unknown_addresses_are_answered_alike",
            "test_a_taken_address_answers_the_same_and_tells_its_owner",
            "test_an_address_that_is_taken_answers_the_same_and_gets_nothing",
        ),
        "An address that is not confirmed stands for no account": (
            "test_an_unconfirmed_address_matches_nothing",
            "test_of_two_who_sign_up_with_one_address_the_one_who_reads_its_mail_gets_it",
        ),
        "A link works once, for a while, and not after another password or address": (
            "test_of_many_at_once_one_succeeds",
            "test_a_link_works_for_an_hour",
            "test_a_link_is_void_when_what_it_rests_on_changes",
        ),
        "Opening a link changes nothing": ("test_a_link_is_not_used_up_by_being_opened",),
        "Links lead below the issuer, whatever the request says": (
            "test_links_lead_below_the_issuer_whatever_the_host_header_says",
        ),
        "A reset ends all sessions, and signs no one in": (
            "test_a_reset_sets_the_password_and_ends_all_sessions_and_signs_no_one_in",
        ),
        "A change of address is told to the old address, which undoes it for a week": (
            "test_the_old_address_undoes_the_change_for_a_week",
            "test_a_second_change_takes_no_undoing_away",
        ),
        "A manager gains no account by a link or an address that was granted more since": (
            "test_an_invitation_counts_only_while_its_maker_may_manage_the_account",
            "test_an_address_that_waits_is_confirmed_only_while_its_chooser_may_manage_the_account",
            "test_a_chosen_address_resets_nothing_once_the_account_holds_more_than_its_chooser",
            "test_a_chosen_address_undoes_no_change_of_an_account_that_holds_more_than_its_chooser",
        ),
        "A token alone takes over no account, its own included": (
            "test_a_token_alone_does_not_take_over_its_own_account",
            "test_a_token_alone_never_erases_its_own_account",
        ),
        "A link that an administrator hands over confirms no address": (
            "test_a_link_that_was_handed_over_confirms_no_address",
        ),
        "After an erasure neither the name nor the address is in the database or its dump": (
            "test_after_an_erasure_no_column_and_no_dump_has_the_name",
            "test_after_an_erasure_no_column_and_no_dump_has_an_address",
        ),
    },
    "Logins": {
        "Every wrong credential gets the same bytes": (
            "test_every_bad_credential_gets_the_same_bytes",
        ),
        "The throttle acts at the same attempt, with the same bytes, for unknown names": (
            "test_the_throttle_bites_at_the_same_attempt_with_the_same_bytes_for_names_that_nobody_has",
        ),
        "Failures that two replicas charge at once add up": (
            "test_failures_charged_at_once_by_two_replicas_add_up_exactly",
        ),
        "The owner signs in from a known address while others guess": (
            "test_the_owner_signs_in_from_a_known_address_while_a_hundred_others_guess",
        ),
        "Guesses from elsewhere do not block a password change": (
            "test_guesses_from_elsewhere_do_not_keep_the_owner_from_changing_the_password",
        ),
        "No login succeeds with the old password after a password change": (
            "test_no_login_slips_past_a_password_change",
        ),
        "One account gets its share of the hashing queue, and others sign in": (
            "test_one_account_signing_in_holds_its_share_and_the_others_get_in",
        ),
        "A login whose client disconnects in the queue is never hashed": (
            "test_a_login_that_hangs_up_in_the_queue_makes_room_and_is_never_hashed",
        ),
        "An accepted imported hash can verify a login": (
            "test_whatever_hash_is_not_refused_a_password_can_be_checked_by",
            "test_people_sign_in_with_hashes_of_every_kind",
        ),
        "An imported email address that was never confirmed becomes no username": (
            "test_no_address_that_was_never_confirmed_becomes_a_username",
        ),
        "A password that was hashed as it was typed elsewhere verifies": (
            "test_hashes_of_what_was_typed_verify_and_are_replaced_by_the_normal_forms",
        ),
        "No login waits for imported hashes that cost far more than others": (
            "test_no_login_waits_for_hashes_that_cost_far_more",
        ),
        "No imported hash costs more than the limits are checked by, whatever the password": (
            "test_a_verification_does_no_more_work_than_is_declared",
        ),
        "A wrong password costs as much for a cheap imported hash as for an unknown name": (
            "test_a_wrong_password_costs_no_less_than_for_an_unknown_name",
        ),
    },
    "Administration": {
        "A route that declares no caller stops the start": (
            "test_route_that_does_not_say_who_may_call_it_stops_start_up",
        ),
        "No caller gains more than they were granted, by any sequence of calls": (
            "tests/access/test_climbing.py",
        ),
        "An admin of one hour can't take over an account that holds more for longer": (
            "test_whoever_is_admin_for_an_hour_takes_over_nobody_who_holds_anything_for_longer",
        ),
        "A disabled administrator finishes no further action": (
            "test_a_request_under_way_of_somebody_who_was_put_out_changes_nothing",
        ),
        "Some account always holds `admin`": (
            "test_of_two_admins_who_put_each_other_out_at_once_one_stays",
        ),
        "An admin who can't sign in does not count as the last one": (
            "test_an_admin_who_cant_sign_in_doesnt_count_and_blocks_nothing",
        ),
        "Pages of a list show every remaining row once": (
            "test_pages_show_every_user_who_stayed_once",
        ),
        "A grant switched off in the console stops the token": (
            "test_a_grant_switched_off_stops_the_token_and_is_told",
        ),
        "The console contacts no other host, keeps its policy and stores nothing": (
            "tests/system/test_console_in_browser.py",
        ),
        "A secret stays on the screen until its reader has saved it": (
            "test_a_secret_stays_until_it_is_saved_and_is_listed_and_revoked",
            "test_a_secret_stays_on_its_page_until_it_is_saved",
            "test_the_browser_asks_before_it_leaves_a_secret_that_is_not_saved",
        ),
        "axe finds nothing in the console, on a phone or a desk, light or dark": (
            "test_axe_finds_nothing",
        ),
        "The end of a session by an administrator is checked like every change of an account": (
            "test_whoever_holds_less_ends_no_session_of_those_who_hold_more",
        ),
        "A field of an import never becomes a row": (
            "test_at_a_line_that_is_no_row_the_import_stops_and_what_follows_is_nobody",
        ),
        "A killed import can be run again, and nothing is doubled or lost": (
            "test_an_import_that_is_killed_is_taken_up_again_and_nothing_is_doubled_or_lost",
        ),
    },
    "Audit and telemetry": {
        "Every change is audited, without secrets": (
            "test_all_that_is_done_is_told_and_no_secret_is_in_it",
        ),
        "A rolled-back change has no entry, and a refused login has one": (
            "tests/api/test_audit.py",
        ),
        "A refusal after a right password or secret is audited": ("tests/api/test_refusals.py",),
        "An entry names the operator who ran the command": (
            "test_every_change_by_a_command_names_who_ran_it",
        ),
        "After an erasure no column and no dump has the name": (
            "test_after_an_erasure_no_column_and_no_dump_has_the_name",
        ),
        "An erased account stops at once, and nothing that is under way outlives it": (
            "test_an_erased_account_is_no_user_any_more",
            "test_nothing_outlives_an_erasure_and_nothing_crashes",
        ),
        "Of two last admins who erase themselves at once one stays": (
            "test_of_two_last_admins_who_go_at_once_one_stays",
        ),
        "The name of an erased account is refused for 30 days": (
            "test_a_name_stays_taken_for_30_days_in_every_spelling_and_is_free_then",
            "test_so_does_what_looks_like_it",
        ),
        "No table is forgotten by an erasure or an export": (
            "test_every_column_that_refers_to_users_says_what_becomes_of_its_row",
            "test_no_table_about_people_is_forgotten",
        ),
        "An export has everything of one person, nothing of another, and no secret": (
            "tests/ops/test_personal_data.py",
        ),
        "Audit entries hold no names, and older ones lose theirs": (
            "test_names_go_out_of_older_entries_and_an_entry_says_so",
            "test_what_the_release_before_writes_from_then_on_has_no_name_either",
        ),
        "No statement rewrites the audit log": ("tests/audit/test_append_only.py",),
        "`audit --follow` shows each entry once, however slowly it is read": (
            "test_follow_tells_each_entry_once_in_whatever_order_they_are_committed",
            "test_follow_tells_what_was_committed_while_its_reader_paused",
        ),
        "No secret is ever logged": ("test_no_secret_is_ever_logged",),
        "A crash is logged once, with its place and without a client's data": (
            "test_a_crash_is_logged_once_with_where_and_without_what",
        ),
        "A trace holds nothing that a client sent": (
            "test_nothing_that_a_client_sent_is_told_to_a_collector",
        ),
        "Without a collector, no tracing code is imported": (
            "test_where_no_traces_are_asked_for_nothing_of_them_is_imported",
        ),
        "A silent collector delays neither requests nor the shutdown": (
            "test_a_collector_that_never_answers_keeps_neither_requests_nor_the_end",
        ),
        "No answer of a collector fills the memory": (
            "test_no_answer_of_a_collector_fills_the_memory_or_is_waited_for",
        ),
        "A scrape of one worker covers all workers": (
            "test_a_scrape_of_one_worker_tells_what_all_have_counted",
        ),
        "Prometheus raises each alert in its case only, and answers the dashboard's queries": (
            "tests/system/test_prometheus.py",
        ),
    },
    "HTTP": {
        "No input causes a 500": ("tests/fuzz/test_forms.py", "tests/fuzz/test_document.py"),
        "The OpenAPI document describes what clients see": ("tests/fuzz/test_document.py",),
        "The caller is found before a body is read": (
            "test_401_and_403_come_before_the_body_is_read",
        ),
        "A failed write leaves nothing and is not published": ("tests/api/test_unit_of_work.py",),
        "A reverse proxy that asks Scopegate lets no request pass without the scopes": (
            "test_a_proxy_lets_pass_whom_scopegate_lets_pass_and_tells_who_it_is",
            "test_a_proxy_s_question_runs_no_sql_and_hears_of_every_end",
        ),
        "Every GET answers HEAD": ("test_every_get_answers_head_with_the_same_status_and_headers",),
        "Pages of any origin sign in and out; only named origins call the rest": (
            "tests/api/test_cross_origin.py",
        ),
        "A 422 says what was wrong, and repeats no input": ("tests/api/test_reasons.py",),
        "No request waits for a connection while it holds one": (
            "test_no_request_waits_for_a_connection_while_it_holds_one",
        ),
        "A body is never read as a request, nor a trailer as a header": (
            "test_a_body_is_never_a_request",
            "test_a_trailer_is_not_a_header",
        ),
        "The same holds behind HAProxy and nginx with keep-alive": (
            "test_no_request_becomes_part_of_another_client_s",
        ),
        "No client holds a connection by doing nothing": (
            "test_a_client_that_does_not_finish_is_closed_while_others_are_served",
        ),
        "Headers and trailers have a limit": ("tests/server/test_connections.py",),
        "Every response has the security headers, also after a crash or malformed input": (
            "tests/api/test_middleware.py",
            "test_what_never_becomes_a_request_is_answered_in_the_form_of_all_else",
        ),
        "Answers to credentials are not stored": (
            "test_an_answer_to_a_request_with_credentials_is_not_stored",
        ),
    },
    "Clients": {
        "Unmodified clients sign in, refresh, introspect and verify": (
            "tests/system/test_oauth_clients.py",
            "tests/system/test_npm_clients.py",
            "tests/system/test_toolchain_clients.py",
        ),
        "Clients find the metadata where they look, also below an issuer's path": (
            "tests/api/test_discovery.py",
            "test_behind_nginx_with_and_without_a_path_clients_find_the_service_and_sign_in",
        ),
        "The issuer and the audience are never changed": (
            "test_what_clients_would_read_in_another_way_is_no_issuer",
            "test_a_slash_at_the_end_of_the_issuer_is_refused_and_never_dropped",
            "test_the_audience_is_kept_byte_for_byte",
        ),
        "Below a path that a proxy strips, `/docs` signs in and calls": (
            "test_below_a_path_that_a_proxy_strips_the_page_shows_signs_in_and_calls",
        ),
        "Gateways can check tokens by a PEM file": (
            "test_the_public_keys_are_printed_as_pem_the_signing_one_first",
        ),
    },
    "Starting, stopping, upgrading": {
        "A wheel migrates and serves without a checkout": ("tests/system/test_wheel.py",),
        "`serve` waits for a database, and says for what": (
            "test_serve_waits_for_a_database_says_for_what_and_then_serves",
        ),
        "SIGTERM loses no accepted request": (
            "test_sigterm_under_load_answers_all_that_was_accepted",
        ),
        "A hanging database does not delay the shutdown": (
            "test_a_database_that_hangs_does_not_keep_it_from_ending",
        ),
        "Workers share the memory of what is imported, and no random value": (
            "test_workers_share_what_is_imported_and_draw_no_random_value_twice",
        ),
        "A worker that dies is replaced, and none outlives its parent": (
            "test_a_worker_that_is_killed_is_replaced_and_none_outlives_its_parent",
        ),
        "A replica may be killed under load and come back": (
            "test_a_replica_may_be_killed_and_come_back_under_load",
        ),
        "Replicas may migrate and start together": (
            "tests/db/test_migrations.py",
            "tests/tokens/test_keyring.py",
        ),
        "The previous release serves while a migration runs": (
            "test_the_release_before_serves_on_while_each_migration_runs",
        ),
        "A restored backup signs no user out, and revives nothing revoked before it": (
            "test_operating_does_what_it_says",
        ),
        "The secret changes replica by replica, and no user is signed out": (
            "test_operating_does_what_it_says",
        ),
        "`scopegate doctor` finds what is wrong": ("tests/cli/test_doctor.py",),
        "A database of another project is left as it is": ("tests/db/test_foreign.py",),
        "Only `migrate` makes a database; a command says which one it uses": (
            "tests/cli/test_which_database.py",
        ),
        "A line of `.env` that can't be read stops the start": (
            "test_a_line_that_cant_be_read_is_refused_with_its_place",
        ),
        "A database can be shared, in a schema of Scopegate's own": (
            "tests/db/test_own_schema.py",
        ),
    },
    "Postgres failures": {
        "Postgres may stop and come back under load: no 500, no wrong pass": (
            "test_postgres_may_go_and_come_under_load",
        ),
        "Behind PgBouncer everything works, and answers are never mixed up": (
            "tests/db/test_pgbouncer.py",
        ),
        "After the primary dies and the standby is promoted, no acknowledged write is lost": (
            "test_the_primary_is_killed_and_the_standby_promoted_under_load",
        ),
        "After a failover the pool waits for one dead connection, not for all": (
            "test_of_connections_that_lead_nowhere_any_more_one_is_waited_for",
        ),
        "A process that has seen the new primary refuses the old one": (
            "test_an_old_primary_that_comes_back_is_refused_by_who_has_seen_the_new",
        ),
        "After a switchover, revocations by the new primary count while the old one runs": (
            "test_what_the_new_primary_revokes_is_refused_though_the_old_one_stays_up",
        ),
        "A name that leads to another cluster is followed": (
            "test_a_name_that_leads_elsewhere_now_is_followed_there",
        ),
        "A listener that stays behind is not trusted": (
            "test_a_listener_that_stays_behind_is_not_trusted",
        ),
        "While commits wait in vain for a standby, the cache is off and readiness is 503": (
            "test_where_commits_wait_for_a_standby_in_vain_nothing_is_trusted_and_it_is_not_ready",
        ),
        "A replica that is behind ends no session that another has opened": (
            "test_a_replica_that_is_behind_ends_no_session_that_another_has_opened",
        ),
        "After the database lost a timeline, replicas refuse until an operator acts": (
            "test_every_replica_refuses_and_says_why_and_what_to_do",
            "test_recovery_ends_all_sessions_and_lets_every_replica_go_on",
        ),
        "No fault of a Patroni cluster loses a write, passes a revoked token or ends a session": (
            "test_a_fault_of_the_cluster_loses_nothing_and_lets_nothing_in",
        ),
        "Under random faults nothing is lost, nothing wrong passes, and all come back": (
            "tests/system/test_chaos.py",
        ),
    },
    "Documents": {
        "The commands in the documents work, and what they name exists": (
            "tests/test_documents.py",
            "test_operating_does_what_it_says",
        ),
    },
}
