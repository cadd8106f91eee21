%% @doc Addresses and errors as text that people read.
-module(portmapper_text).

-export([address/1, holder/1, error/1]).

%% @doc `192.0.2.1:4369' or `[2001:db8::1]:4369'.
-spec address({inet:ip_address(), inet:port_number()}) -> unicode:chardata().
address({Ip, Port}) when tuple_size(Ip) =:= 4 ->
    [inet:ntoa(Ip), $:, integer_to_list(Port)];
address({Ip, Port}) ->
    [$[, inet:ntoa(Ip), "]:", integer_to_list(Port)].

%% @doc What was wrong, with which value, and what would be right.
-spec error(term()) -> unicode:chardata().
error({portmapper, Reason}) ->
    %% As application:ensure_all_started/1 has it.
    ?MODULE:error(Reason);
error({Reason, {portmapper_app, start, _Arguments}}) ->
    ?MODULE:error(Reason);
error({bad_config, #{key := Key, value := Value, expected := Expected}}) ->
    io_lib:format("~ts is ~0tp, expected ~ts", [key(Key), Value, Expected]);
error({address_in_use, #{address := Ip, port := Port, holder := Holder}}) ->
    Other = Port rem 65535 + 1,
    io_lib:format(
        "cannot listen on ~ts: the port is in use by ~ts. Stop that process, or take "
        "another port: make run PORT=~b, ERL_EPMD_PORT=~b in the environment, or "
        "{port, ~b} for the application portmapper",
        [address({Ip, Port}), holder(Holder), Other, Other, Other]
    );
error({cannot_bind, #{address := Ip, port := Port, reason := Reason}}) ->
    io_lib:format("cannot listen on ~ts: ~ts", [address({Ip, Port}), Reason]);
error({too_many_addresses, #{count := Count}}) ->
    io_lib:format("~b addresses, expected at most 16, loopback addresses included", [Count]);
error({not_listening, #{descriptor := Descriptor}}) ->
    io_lib:format("descriptor ~b is not a TCP socket that listens", [Descriptor]);
error({bad_estate, #{reason := Reason}}) ->
    ["cannot go on with what was handed over: ", Reason];
error({no_port_mapper, #{path := Path, reason := Reason}}) ->
    io_lib:format("cannot take over: no portmapper at ~ts: ~ts", [Path, Reason]);
error({takeover_not_permitted, #{path := Path}}) ->
    io_lib:format("cannot take over: ~ts is another user's", [Path]);
error({takeover_refused, #{reason := Reason}}) ->
    ["cannot take over: ", takeover_refused(Reason)];
error({takeover_failed, #{reason := Reason}}) ->
    ["cannot take over, the other portmapper goes on: ", Reason];
error({service_manager_unreachable, #{reason := Reason}}) ->
    ["cannot reach the service manager: ", Reason];
error({cannot_start_thread, #{reason := Reason}}) ->
    ["cannot start the server's thread: ", Reason];
error({cannot_load_library, #{text := Text}}) ->
    ["cannot load the library: ", Text];
error({needs_restart, #{key := Key}}) ->
    io_lib:format("~ts takes effect at the start only", [key(Key)]);
error(Reason) ->
    io_lib:format("~tp", [Reason]).

takeover_refused(service_manager) ->
    "the other portmapper reports to a service manager, which keeps everything while it "
    "restarts it: systemctl restart epmd";
takeover_refused(taken_over) ->
    "another one has just taken over";
takeover_refused(version) ->
    "the other portmapper is newer than this one";
takeover_refused(not_permitted) ->
    "the other portmapper is another user's".

key(Key) when is_atom(Key) -> atom_to_binary(Key);
key(Key) -> io_lib:format("~tp", [Key]).

%% @doc `beam.smp (pid 123, user root)', or as much of it as is known.
-spec holder(portmapper:holder() | unknown) -> unicode:chardata().
holder(#{program := Program, pid := Pid, user := User}) ->
    io_lib:format("~ts (pid ~b, user ~ts)", [Program, Pid, User]);
holder(#{program := Program, pid := Pid}) ->
    io_lib:format("~ts (pid ~b)", [Program, Pid]);
holder(#{user := User}) ->
    ["a process of user ", User];
holder(_Unknown) ->
    "a process that cannot be seen from here".
