%% @doc The configuration: application environment, else `epmd''s environment
%% variables, else the defaults. The server checks it as one map.
-module(portmapper_config).

-export([with_checked/1, change/2, current/1, epmd_mode/0, epmd_port/0]).
-export_type([config/0, epmd_mode/0]).

-type config() :: #{
    port => inet:port_number(),
    addresses => all | [inet:ip_address() | string() | binary()],
    exposure => portmapper:exposure(),
    watch_remote => boolean(),
    max_watchers => 0..16#ffffffff,
    subscriber_queue => 1..16#ffffffff,
    relaxed_command_check => boolean(),
    evict_stale => boolean(),
    packet_timeout => 1..86400,
    local_reserve => 0..16#ffffffff,
    max_nodes => none | 1..16#ffffffff,
    max_nodes_per_process => none | 1..16#ffffffff,
    delay_accept => 0..86400,
    delay_write => 0..86400,
    remembered_names => 0..16#ffffffff,
    raise_file_limit => boolean(),
    process_name => string() | binary(),
    trim_memory => boolean(),
    systemd => boolean(),
    stored_descriptors => 0..16#ffffffff,
    state_file => default | none | string() | binary(),
    takeover_socket => default | none | string() | binary(),
    takeover => boolean(),
    log_level => default | logger:level() | all | none,
    debug => byte()
}.
%% `port': 4369 by default; 0 lets the system choose. `addresses': `all' by
%% default; loopback addresses are added to a list. `exposure': `all' by default;
%% with `local', all addresses are the loopback ones, and whoever comes from
%% another host to any other that is listened on is refused unanswered.
%% `watch_remote': let peers on other hosts that may list names (`exposure' is `all')
%% also watch them come and go; `false' by default. `max_watchers': how many connections
%% may watch at a time, beyond which they are refused unanswered; 100 by default.
%% `subscriber_queue': how many messages may wait in the queue of a subscriber before it
%% is told nothing more, until it has read some (see {@link portmapper:subscribe/1});
%% 10,000 by default.
%% `relaxed_command_check': allow STOP, and KILL while nodes are registered;
%% `false' by default. `evict_stale': have a node make way for another one of its
%% name when the socket that listened on its port as it registered listens no
%% more, though its connection still stands (a child of it may have inherited
%% that); `true' by default. A node stays that was not seen to listen, that named a
%% protocol other than TCP, on whose port another socket listens (unless that
%% is the port of the other node, too), or of which the system does not tell; and so
%% do the names of this VM. `packet_timeout': seconds that a connection may be silent
%% before its request is complete, or may leave its reply unread; 60 by default.
%% `local_reserve': how many descriptors are kept for connections of this host when
%% they run short, of which others do not get the last ones; 64 by default, and half of
%% all at the most. Then connections that wait for their peer are closed for new
%% ones: of the address with the most of them (of IPv6 the /64), those that have waited
%% longest without asking for anything; else those whose reply was left unread for the
%% longest time. Registrations never are. `max_nodes': how many nodes may be registered,
%% names of this VM included; `none' by default. `max_nodes_per_process': how many of them
%% by one process; `none' by default. With it, each registration takes a search for the
%% process that has the connection, some milliseconds on a busy host.
%% `delay_accept', `delay_write': seconds that a connection waits before it is
%% accepted, and a reply before it is sent, to have a test see a busy server; 0
%% by default. `remembered_names': the number of names of gone nodes from which
%% on a new name has the oldest forgotten; 1000 by default.
%% `raise_file_limit': raise the soft limit of open files to the hard one;
%% `false' by default, for a node that does nothing else. `process_name': what
%% `ps' and others call the process, at most 15 bytes; by default, or if empty, what
%% they call it anyway. `trim_memory': give memory back to the system that only the
%% start needed, or many nodes that came and went; `false' by default. These too are for a node that does nothing else.
%% `systemd': serve on the listening sockets that a service manager handed over to
%% this VM, and tell it how the port mapper is (`READY', `STATUS', `STOPPING',
%% `WATCHDOG'); `false' by default. `stored_descriptors': how many descriptors the
%% service manager keeps for this VM (its `FileDescriptorStoreMax'), so that nodes
%% stay registered when it is killed and started again; 0 by default: none.
%% `state_file': a file to record what is registered in, so that a node that registers
%% again after VM and service manager are gone gets the creation that it had: a path, or
%% `default' (`nodes-PORT', where `takeover_socket' is by default), or `none', the default.
%% `takeover_socket': the Unix socket at which a successor takes
%% over, as {@link portmapper:takeover/1} and `epmd -takeover' do, of the same user alone:
%% `none', or a path of at most 90 bytes, or `default', which is `takeover-PORT' in
%% `$RUNTIME_DIRECTORY', else for root in `/run/portmapper', else in
%% `$XDG_RUNTIME_DIR/portmapper', else in `/tmp/portmapper-UID'. `takeover': take over
%% from the port mapper on `port' instead of binding it; `false' by default, and again once
%% that is done. `log_level': log from this level on, whatever
%% logger's own level is; `default' by default.
%% `debug': log at level `debug' what peers ask (1), also their connections (2),
%% also the bytes of requests (3); 0 by default.

-type epmd_mode() :: client | host | auto.
%% See {@link portmapper_epmd}.

-define(DEFAULT_PORT, 4369).

%% @doc Reads the configuration and passes it on to be checked and used, with
%% the descriptors of listening sockets that were handed over to this VM, and
%% the variables that tell of a service manager.
-spec with_checked(Use) -> {ok, Value} | {error, term()} when
    Use :: fun(
        (portmapper_nif:config(), [integer()], [portmapper_nif:variable()]) ->
            {ok, Value} | {error, term()}
    ).
with_checked(Use) ->
    Application = maps:from_list(application:get_all_env(portmapper)),
    %% What is not of the server.
    Own = maps:without([included_applications, epmd_mode], Application),
    Given = maps:merge(from_os_env(), Own),
    {Descriptors, Names} = inherited(Given),
    Variables = Names ++ service_manager(Given),
    Native = [{atom_to_binary(Name), native_text(Value)} || {Name, Value} <- Variables],
    case Use(to_native(Given), Descriptors, Native) of
        {error, Reason} ->
            {error, name_source(Reason, maps:merge(Given, maps:from_list(Variables)), Own)};
        Ok -> Ok
    end.

%% The protocol of sd_listen_fds(3). A VM that serves something else too may have
%% sockets that are not meant for the port mapper, so it has to be asked for.
inherited(#{systemd := true}) ->
    Count = os:getenv("LISTEN_FDS", "0"),
    Names = os:getenv("LISTEN_FDNAMES", ""),
    Mine = os:getenv("LISTEN_PID") =:= os:getpid(),
    %% They are taken once: later the numbers may be those of something else.
    [os:unsetenv(Name) || Name <- ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"]],
    Descriptors = [Descriptor || Mine, Descriptor <- lists:seq(3, 2 + count(Count))],
    {Descriptors, [{'LISTEN_FDNAMES', Names} || Descriptors =/= []]};
inherited(_Config) ->
    {[], []}.

%% What is no number means none, as to sd_listen_fds(3). (Not with the module
%% string: it would bring the tables of Unicode, a megabyte of memory.)
count(Text) ->
    try
        max(0, list_to_integer(Text))
    catch
        error:badarg -> 0
    end.

%% The protocol of sd_notify(3). The service manager may mean something else in
%% this VM, too.
service_manager(#{systemd := true}) ->
    [
        {Name, Value}
     || Name <- ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID'],
        Value <- [os:getenv(atom_to_list(Name))],
        Value =/= false
    ];
service_manager(_Config) ->
    [].

%% The bytes that the system has.
native_text(Value) ->
    unicode:characters_to_binary(Value, unicode, file:native_name_encoding()).

%% @doc How this node and the port mapper of its host go together.
-spec epmd_mode() -> {ok, epmd_mode()} | {error, portmapper:config_error()}.
epmd_mode() ->
    {Key, Mode} =
        case {application:get_env(portmapper, epmd_mode), os:getenv("PORTMAPPER_EPMD_MODE", "")} of
            {{ok, Given}, _} -> {epmd_mode, Given};
            {undefined, ""} -> {epmd_mode, client};
            {undefined, Text} -> {'PORTMAPPER_EPMD_MODE', mode(Text)}
        end,
    case lists:member(Mode, [client, host, auto]) of
        true ->
            {ok, Mode};
        false ->
            Expected = <<"client, host or auto">>,
            {error, {bad_config, #{key => Key, value => Mode, expected => Expected}}}
    end.

mode("client") -> client;
mode("host") -> host;
mode("auto") -> auto;
mode(Other) -> Other.

%% @doc The port of the port mappers that this node asks. As in `erl_epmd' it is that
%% of `ERL_EPMD_PORT', which `erl' makes an argument of, unless there is one in the
%% application environment.
-spec epmd_port() -> inet:port_number().
epmd_port() ->
    case {application:get_env(portmapper, port), init:get_argument(epmd_port)} of
        {{ok, Port}, _} when is_integer(Port), Port > 0 -> Port;
        {_, {ok, [[Text | _] | _]}} -> list_to_integer(Text);
        {_, error} -> ?DEFAULT_PORT
    end.

%% @doc Changes some keys of a running server.
-spec change(portmapper_nif:server(), map()) -> ok | {error, term()}.
change(Server, Changes) ->
    Old = portmapper_nif:config(Server),
    New = maps:merge(Old, to_native(Changes)),
    case portmapper_nif:reconfigure(Server, New) of
        {ok, {}} ->
            portmapper_log:unset_level(Old),
            portmapper_log:set_level(New);
        {error, Reason} ->
            {error, name_source(Reason, Changes, Changes)}
    end.

%% @doc The configuration in force.
-spec current(portmapper_nif:server()) -> config().
current(Server) ->
    maps:map(fun from_native/2, portmapper_nif:config(Server)).

%% The variables of C epmd.
-spec from_os_env() -> map().
from_os_env() ->
    Addresses =
        case string:lexemes(os:getenv("ERL_EPMD_ADDRESS", ""), ", ") of
            [] -> #{};
            List -> #{addresses => List}
        end,
    %% Any value switches it on, even an empty one.
    Relaxed = [
        {relaxed_command_check, true}
     || os:getenv("ERL_EPMD_RELAXED_COMMAND_CHECK") =/= false
    ],
    Port = [{port, port(Text)} || Text <- [os:getenv("ERL_EPMD_PORT", "")], Text =/= ""],
    maps:merge(Addresses, maps:from_list(Relaxed ++ Port)).

%% What is no number stays as it is, for the error to show.
port(Text) ->
    case string:to_integer(string:trim(Text)) of
        {Port, ""} -> Port;
        _ -> Text
    end.

%% Errors show what was given, under the name by which it was given.
name_source({bad_config, #{key := Key} = Details}, Given, Own) ->
    Named =
        case is_map_key(Key, Own) of
            true -> Key;
            false -> maps:get(Key, variables(), Key)
        end,
    {bad_config, Details#{key := Named, value => maps:get(Key, Given, undefined)}};
name_source(Reason, _Given, _Own) ->
    Reason.

variables() ->
    #{port => 'ERL_EPMD_PORT', addresses => 'ERL_EPMD_ADDRESS'}.

%% The server takes texts as binaries; what is none stays none, which it refuses:
%% the error shows what was given.
to_native(Config) ->
    maps:map(
        fun
            (addresses, all) -> all;
            (addresses, List) when length(List) >= 0 -> [address_text(Each) || Each <- List];
            (addresses, _Other) -> invalid;
            (process_name, Name) -> text(Name);
            (state_file, Name) when not is_atom(Name) -> text(Name);
            (takeover_socket, Name) when not is_atom(Name) -> text(Name);
            (_Key, Value) -> Value
        end,
        Config
    ).

address_text(Address) when is_tuple(Address) ->
    case inet:ntoa(Address) of
        {error, einval} -> invalid;
        Text -> list_to_binary(Text)
    end;
address_text(Address) ->
    text(Address).

%% An atom would be taken for its text.
text(Text) ->
    try
        iolist_to_binary(Text)
    catch
        error:badarg -> 0
    end.

from_native(addresses, List) when is_list(List) ->
    [
        begin
            {ok, Address} = inet:parse_address(binary_to_list(Text)),
            Address
        end
     || Text <- List
    ];
from_native(_Key, Value) ->
    Value.
