%% @doc What happens, as log events: what is asked at `debug', joins and leaves at
%% `info', refusals at `notice' with the peer, defects at `error'.
-module(portmapper_log).

-include_lib("kernel/include/logger.hrl").

%% Milliseconds between two searches for the holder of a name at the least.
-define(SEARCH_INTERVAL, 200).

-export([
    cannot_start/1,
    listening/1,
    not_searched/0,
    notices/4,
    resumed/1,
    elsewhere/1,
    set_level/1,
    unset_level/1
]).

-spec cannot_start(term()) -> ok.
cannot_start(Reason) ->
    ?LOG_ERROR("portmapper: ~ts", [portmapper_text:error(Reason)]).

-spec listening(portmapper:info()) -> ok.
listening(#{addresses := Addresses, exposure := Exposure}) ->
    Texts = [portmapper_text:address(Address) || Address <- Addresses],
    ?LOG_NOTICE("portmapper listens on ~ts~ts", [lists:join(", ", Texts), exposure(Exposure)]).

exposure(all) -> "";
exposure(Exposure) -> io_lib:format(" (exposure ~ts)", [Exposure]).

-spec resumed(portmapper_nif:phase()) -> ok.
resumed(down) ->
    ?LOG_ERROR("portmapper's thread died and cannot be replaced yet");
resumed(_Phase) ->
    ?LOG_ERROR("portmapper's thread died and was replaced on the same sockets").

-spec elsewhere(Reason :: unicode:chardata()) -> ok.
elsewhere(Reason) ->
    ?LOG_ERROR(
        "portmapper goes on in the library of before its upgrade, but cannot be called: ~ts",
        [Reason]
    ).

%% @doc For the first call of {@link notices/4}.
-spec not_searched() -> Searched :: integer().
not_searched() ->
    erlang:monotonic_time(millisecond) - ?SEARCH_INTERVAL.

%% @doc Logs what has happened. Who holds the name that another one was refused is
%% searched for, which takes a while, so not more often than it may be: `Searched'
%% is when it was last, in monotonic milliseconds, and so is what is returned.
-spec notices([portmapper_nif:notice()], Missed, Searched, portmapper_nif:server()) ->
    Searched
when
    Missed :: non_neg_integer(), Searched :: integer().
notices(Notices, Missed, Searched, Server) ->
    Log = fun(Notice, Before) -> notice(Notice, Before, Server) end,
    Now = lists:foldl(Log, Searched, Notices),
    Missed > 0 andalso
        ?LOG_WARNING("~b events came too fast and were not logged", [Missed]),
    Now.

notice({refused, Peer, name_in_use = Reason, Name}, Searched, Server) when is_binary(Name) ->
    Now = erlang:monotonic_time(millisecond),
    case Now - Searched >= ?SEARCH_INTERVAL andalso logger:allow(notice, ?MODULE) of
        true ->
            Holder = holder(portmapper_nif:lookup_with_holder(Server, Name)),
            ?LOG_NOTICE("refused ~ts as ~ts: ~ts~ts", [peer(Peer), Name, refused(Reason), Holder]),
            Now;
        false ->
            ok = notice({refused, Peer, Reason, Name}),
            Searched
    end;
notice(Notice, Searched, _Server) ->
    ok = notice(Notice),
    Searched.

holder({ok, #{holder := Holder}}) when map_size(Holder) > 0 ->
    [" by ", portmapper_text:holder(Holder)];
holder(_Unknown) ->
    "".

notice({up, Name, Port, Creation, Peer}) ->
    ?LOG_INFO(
        "node ~ts is up: port ~b, creation ~b, from ~ts",
        [Name, Port, Creation, peer(Peer)]
    );
notice({down, Name, Creation, Reason}) ->
    ?LOG_INFO("node ~ts is down: creation ~b, ~ts", [Name, Creation, down(Reason)]);
notice({connected, Peer}) ->
    ?LOG_DEBUG("~ts has connected", [peer(Peer)]);
notice({asked, Peer, Request, undefined}) ->
    ?LOG_DEBUG("~ts asks ~ts", [peer(Peer), Request]);
notice({asked, Peer, Request, Name}) ->
    ?LOG_DEBUG("~ts asks ~ts ~ts", [peer(Peer), Request, Name]);
notice({received, Peer, Body}) ->
    Hex = [io_lib:format(" ~2.16.0b", [Byte]) || <<Byte>> <= Body],
    ?LOG_DEBUG("~ts sent ~b bytes:~s", [peer(Peer), byte_size(Body), Hex]);
notice({refused, Peer, Reason, undefined}) ->
    ?LOG_NOTICE("refused ~ts: ~ts", [peer(Peer), refused(Reason)]);
notice({refused, Peer, Reason, Name}) ->
    ?LOG_NOTICE("refused ~ts as ~ts: ~ts", [peer(Peer), Name, refused(Reason)]);
notice({evicted, Name, Port, Peer, Successor}) ->
    ?LOG_WARNING(
        "evicted node ~ts of ~ts, which no longer listens on port ~b, for the one of ~ts",
        [Name, peer(Peer), Port, peer(Successor)]
    );
notice({timed_out, Peer}) ->
    ?LOG_NOTICE("closed ~ts: no whole request came in time", [peer(Peer)]);
notice({panicked, Peer}) ->
    ?LOG_ERROR("closed ~ts: a defect of portmapper", [peer(Peer)]);
notice(out_of_descriptors) ->
    ?LOG_WARNING(
        "out of file descriptors: new connections wait until others close "
        "(raise the limit of open files, or set raise_file_limit)"
    );
notice(descriptors_suffice) ->
    ?LOG_NOTICE("file descriptors suffice again");
notice({address_skipped, Address, Reason}) ->
    ?LOG_WARNING("does not listen on ~ts: ~ts", [peer(Address), Reason]);
notice({file_limit_kept, Reason}) ->
    ?LOG_WARNING("cannot raise the limit of open files: ~ts", [Reason]);
notice({went_on, Nodes, Gone}) ->
    ?LOG_NOTICE("goes on with ~b nodes; ~b are gone", [Nodes, Gone]);
notice({store_too_small, Slots, Limit}) ->
    ?LOG_WARNING(
        "the service manager keeps ~b descriptors, but ~b may be open: nodes beyond that are "
        "lost if this VM is killed (raise FileDescriptorStoreMax, or lower LimitNOFILE)",
        [Slots, Limit]
    );
notice({not_recorded, undefined, Reason}) ->
    ?LOG_WARNING("cannot record nodes, they are lost if this VM is killed: ~ts", [Reason]);
notice({not_recorded, File, Reason}) ->
    ?LOG_WARNING("cannot record nodes in ~ts: ~ts", [File, Reason]);
notice({state_file_unreadable, KeptAs, Reason}) ->
    ?LOG_WARNING("the state file is of no use, it is ~ts now: ~ts", [KeptAs, Reason]);
notice({service_manager_unreachable, Reason}) ->
    ?LOG_WARNING("cannot reach the service manager (NOTIFY_SOCKET): ~ts", [Reason]);
notice({no_takeover_socket, Path, Reason, IsRequired}) ->
    Level =
        case IsRequired of
            true -> warning;
            false -> info
        end,
    ?LOG(Level, "no other one can take over, cannot listen at ~ts: ~ts", [Path, Reason]);
notice({not_taken_over, Pid, Reason}) ->
    ?LOG_WARNING("process ~b did not take over, portmapper goes on: ~ts", [Pid, Reason]);
notice({taken_over, Pid}) ->
    ?LOG_NOTICE("portmapper ends: process ~b has taken over", [Pid]);
notice({killed, Peer}) ->
    ?LOG_NOTICE("portmapper ends: ~ts sent KILL", [peer(Peer)]).

peer(vm) -> "this VM";
peer(Address) -> portmapper_text:address(Address).

down(closed) -> "its connection closed";
down(surplus_data) -> "it sent more than its registration";
down(stopped) -> "a local peer sent STOP";
down(dropped) -> "it was dropped";
down(unregistered) -> "this VM unregistered it";
down(evicted) -> "it was evicted".

%% Reasons are words that read well. (Not with the module string: it would bring
%% the tables of Unicode, a megabyte of memory.)
refused(Reason) ->
    [between_words(Character) || Character <- atom_to_list(Reason)].

between_words($_) -> $\s;
between_words(Character) -> Character.

%% @doc Has this application log from this level on; `default' leaves it to the
%% configuration of logger.
-spec set_level(#{log_level := default | logger:level() | all | none, _ => _}) -> ok.
set_level(#{log_level := default}) -> ok;
set_level(#{log_level := Level}) -> ok = logger:set_application_level(portmapper, Level).

%% @doc Takes back what {@link set_level/1} did.
-spec unset_level(#{log_level := default | logger:level() | all | none, _ => _}) -> ok.
unset_level(#{log_level := default}) -> ok;
unset_level(_Config) -> ok = logger:unset_application_level(portmapper).
