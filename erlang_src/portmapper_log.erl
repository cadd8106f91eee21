%% @doc What happens, as log events: what is asked at `debug', joins and leaves at
%% `info', refusals at `notice' with the peer, defects at `error'. However often a peer
%% makes something happen, no more than a line a second is logged of it after the first
%% 20 (of joins and leaves, 50 after 500), with the number of those that were not.
-module(portmapper_log).

-include_lib("kernel/include/logger.hrl").

%% Milliseconds between two searches for the holder of a name at the least.
-define(SEARCH_INTERVAL, 200).
%% Milliseconds after which lines that were not logged are told of.
-define(TELL_AFTER, 2000).
%% Lines of a kind that are logged at once, and in a second from then on.
-define(FEW, {20, 1}).
-define(MANY, {500, 50}).

-export([
    cannot_start/1,
    listening/1,
    handed_on/0,
    new/0,
    notices/4,
    tell_suppressed/1,
    resumed/1,
    elsewhere/1,
    set_level/1,
    unset_level/1
]).
-export_type([log/0]).

-opaque log() :: #{
    %% When the holder of a name was searched for last, in monotonic milliseconds.
    searched := integer(),
    rates := portmapper_rate:rates(),
    %% Until lines that were not logged are told of.
    timer => reference()
}.

-spec cannot_start(term()) -> ok.
cannot_start(Reason) ->
    ?LOG_ERROR("portmapper: ~ts", [portmapper_text:error(Reason)]).

-spec listening(portmapper:info()) -> ok.
listening(#{addresses := Addresses, exposure := Exposure}) ->
    Texts = [portmapper_text:address(Address) || Address <- Addresses],
    ?LOG_NOTICE("portmapper listens on ~ts~ts", [lists:join(", ", Texts), exposure(Exposure)]).

exposure(all) -> "";
exposure(Exposure) -> io_lib:format(" (exposure ~ts)", [Exposure]).

-spec handed_on() -> ok.
handed_on() ->
    ?LOG_NOTICE("portmapper ends: another node of this host has taken over").

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
-spec new() -> log().
new() ->
    #{searched => now_ms() - ?SEARCH_INTERVAL, rates => portmapper_rate:new()}.

%% @doc Logs what has happened. Of what peers can make happen as often as they like, not
%% every line is logged, and who holds the name that another one was refused is searched
%% for now and then, for it takes a while. If lines are left to be told of, a message
%% `tell_suppressed' has the caller call {@link tell_suppressed/1}.
-spec notices([portmapper_nif:notice()], Missed, log(), portmapper_nif:server()) -> log() when
    Missed :: non_neg_integer().
notices(Notices, Missed, Log, Server) ->
    {Suppressed, New} = lists:foldl(
        fun(Notice, Before) -> notice(Notice, Before, Server) end, {0, Log}, Notices
    ),
    Suppressed > 0 andalso count(Suppressed, Server),
    Missed > 0 andalso
        ?LOG_WARNING("~b events came too fast and were not logged", [Missed]),
    tell_later(New).

%% The one that is gone counts no more.
count(Suppressed, Server) ->
    try
        portmapper_nif:count_suppressed(Server, Suppressed)
    catch
        error:_ -> ok
    end.

tell_later(#{timer := _} = Log) ->
    Log;
tell_later(#{rates := Rates} = Log) ->
    case portmapper_rate:is_quiet(Rates) of
        true -> Log;
        false -> Log#{timer => erlang:send_after(?TELL_AFTER, self(), tell_suppressed)}
    end.

%% @doc Tells how many lines were not logged of kinds that have not come since.
-spec tell_suppressed(log()) -> log().
tell_suppressed(#{rates := Rates} = Log) ->
    {Silent, New} = portmapper_rate:silent(now_ms(), Rates),
    _ = [
        ?LOG(Level, "~b more lines were not logged: ~ts", [Count, kind(Kind)])
     || {{Kind, Level}, Count} <- Silent
    ],
    tell_later(maps:remove(timer, Log#{rates := New})).

now_ms() ->
    erlang:monotonic_time(millisecond).

notice(Notice, {Suppressed, #{rates := Rates} = Log} = Before, Server) ->
    case limit(Notice) of
        none ->
            ok = notice(Notice),
            Before;
        {Kind, Level, Limit} ->
            case logger:allow(Level, ?MODULE) of
                false ->
                    Before;
                true ->
                    case portmapper_rate:admit({Kind, Level}, Limit, now_ms(), Rates) of
                        {no, New} ->
                            {Suppressed + 1, Log#{rates := New}};
                        {{yes, Others}, New} ->
                            {Text, Searched} = text(Notice, Log#{rates := New}, Server),
                            ?LOG(Level, "~ts~ts", [Text, others(Others)]),
                            {Suppressed, Searched}
                    end
            end
    end.

others(0) -> "";
others(Count) -> io_lib:format(" (~b more lines of this kind were not logged)", [Count]).

%% What peers can make happen: of which kind that is, its level, and how many lines are
%% logged at once, and in a second from then on.
limit({up, _Name, _Port, _Creation, _Peer}) -> {up, info, ?MANY};
limit({down, _Name, _Creation, _Reason}) -> {down, info, ?MANY};
limit({refused, _Peer, Reason, _Name}) -> {{refused, Reason}, notice, ?FEW};
limit({too_many, _Peer, Reason, _Name, _Holder}) -> {{refused, Reason}, warning, ?FEW};
limit({evicted, _Name, _Port, _Peer, _Successor}) -> {evicted, warning, ?FEW};
limit({timed_out, _Peer}) -> {timed_out, notice, ?FEW};
limit({crowded_out, _Peer}) -> {crowded_out, notice, ?FEW};
limit({panicked, _Peer}) -> {panicked, error, ?FEW};
limit(_Notice) -> none.

kind(up) -> "nodes that are up";
kind(down) -> "nodes that are down";
kind({refused, Reason}) -> ["refused, ", refused(Reason)];
kind(evicted) -> "evicted nodes";
kind(timed_out) -> "closed, no whole request came in time";
kind(crowded_out) -> "closed, there are too many connections";
kind(panicked) -> "closed, a defect of portmapper".

text({refused, Peer, name_in_use = Reason, Name}, #{searched := Searched} = Log, Server) when
    is_binary(Name)
->
    Now = now_ms(),
    case Now - Searched >= ?SEARCH_INTERVAL of
        true ->
            Holder = by(portmapper_nif:lookup_with_holder(Server, Name)),
            {[refused(Peer, Reason, Name), Holder], Log#{searched := Now}};
        false ->
            {refused(Peer, Reason, Name), Log}
    end;
text(Notice, Log, _Server) ->
    {text(Notice), Log}.

by({ok, #{holder := Holder}}) when map_size(Holder) > 0 ->
    [" by ", portmapper_text:holder(Holder)];
by(_Unknown) ->
    "".

text({up, Name, Port, Creation, Peer}) ->
    io_lib:format(
        "node ~ts is up: port ~b, creation ~b, from ~ts",
        [Name, Port, Creation, peer(Peer)]
    );
text({down, Name, Creation, Reason}) ->
    io_lib:format("node ~ts is down: creation ~b, ~ts", [Name, Creation, down(Reason)]);
text({refused, Peer, Reason, Name}) ->
    refused(Peer, Reason, Name);
text({too_many, Peer, Reason, Name, Holder}) when map_size(Holder) > 0 ->
    [refused(Peer, Reason, Name), ", it is ", portmapper_text:holder(Holder)];
text({too_many, Peer, Reason, Name, _Unknown}) ->
    refused(Peer, Reason, Name);
text({evicted, Name, Port, Peer, Successor}) ->
    io_lib:format(
        "evicted node ~ts of ~ts, which no longer listens on port ~b, for the one of ~ts",
        [Name, peer(Peer), Port, peer(Successor)]
    );
text({timed_out, Peer}) ->
    ["closed ", peer(Peer), ": no whole request came in time"];
text({crowded_out, Peer}) ->
    ["closed ", peer(Peer), ": there are too many connections"];
text({panicked, Peer}) ->
    ["closed ", peer(Peer), ": a defect of portmapper"].

refused(Peer, Reason, undefined) ->
    ["refused ", peer(Peer), ": ", refused(Reason)];
refused(Peer, Reason, Name) ->
    ["refused ", peer(Peer), " as ", Name, ": ", refused(Reason)].

notice({connected, Peer}) ->
    ?LOG_DEBUG("~ts has connected", [peer(Peer)]);
notice({asked, Peer, Request, undefined}) ->
    ?LOG_DEBUG("~ts asks ~ts", [peer(Peer), Request]);
notice({asked, Peer, Request, Name}) ->
    ?LOG_DEBUG("~ts asks ~ts ~ts", [peer(Peer), Request, Name]);
notice({received, Peer, Body}) ->
    Hex = [io_lib:format(" ~2.16.0b", [Byte]) || <<Byte>> <= Body],
    ?LOG_DEBUG("~ts sent ~b bytes:~s", [peer(Peer), byte_size(Body), Hex]);
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
