%% @doc Options of calls, checked and completed.
-module(portmapper_options).

-export([lookup/1, registration/2, remote/1, watch/1, discovery/1]).
-export_type([bad_option/0]).

-type bad_option() :: {bad_option, #{key := term(), value := term(), expected := binary()}}.

%% @doc Those of {@link portmapper:lookup/2}.
-spec lookup(map()) -> ok | {error, bad_option()}.
lookup(Options) ->
    case checked(#{}, Options, fun bad_lookup/2) of
        {ok, _} -> ok;
        {error, _} = Error -> Error
    end.

bad_lookup(holder, Value) when is_boolean(Value) -> [];
bad_lookup(holder, Value) -> wrong(holder, Value, <<"true or false">>);
bad_lookup(Key, Value) -> wrong(Key, Value, <<"holder">>).

%% @doc Those of {@link portmapper:register/3}, and the port.
-spec registration(Port :: term(), map()) ->
    {ok, portmapper:options()} | {error, bad_option()}.
registration(Port, Options) ->
    Defaults = #{
        type => 77, protocol => 0, highest_version => 6, lowest_version => 5, extra => <<>>
    },
    case integer(port, Port, 65535) of
        [] -> checked(Defaults, Options, fun bad_registration/2);
        [Error] -> {error, {bad_option, Error}}
    end.

bad_registration(extra, Value) when is_binary(Value) -> [];
bad_registration(extra, Value) -> wrong(extra, Value, <<"a binary">>);
bad_registration(Key, Value) when Key =:= type; Key =:= protocol -> integer(Key, Value, 255);
bad_registration(Key, Value) when Key =:= highest_version; Key =:= lowest_version ->
    integer(Key, Value, 65535);
bad_registration(Key, Value) ->
    wrong(Key, Value, <<"one of type, protocol, highest_version, lowest_version, extra">>).

%% @doc Those of {@link portmapper:names/2}.
-spec remote(map()) -> {ok, map()} | {error, bad_option()}.
remote(Options) ->
    checked(#{port => default_port(), timeout => 5000}, with_host(Options), fun bad_remote/2).

%% @doc Those of {@link portmapper_watch:start_link/1}, the pattern as a binary.
-spec watch(map()) -> {ok, map()} | {error, bad_option()}.
watch(Options) ->
    Defaults = #{port => default_port(), timeout => 5000, glob => <<"*">>},
    Given = maps:map(fun as_text/2, with_host(Options)),
    checked(Defaults, Given, fun bad_watch/2).

%% @doc Those of {@link portmapper_discovery:start_link/1}, the pattern as a binary.
-spec discovery(map()) -> {ok, map()} | {error, bad_option()}.
discovery(Options) ->
    Defaults = #{
        name => portmapper_discovery,
        glob => <<"*">>,
        hosts => [local],
        port => default_port(),
        interval => 5000,
        timeout => 5000,
        max_names => 10_000,
        node_host => fun portmapper_discovery_host:node_host/1,
        connect => fun net_kernel:connect_node/1
    },
    checked(Defaults, maps:map(fun as_text/2, Options), fun bad_discovery/2).

with_host(Options) ->
    maps:merge(#{host => undefined}, Options).

as_text(glob, Glob) when is_atom(Glob) -> atom_to_binary(Glob);
as_text(glob, Glob) when is_list(Glob) -> unicode:characters_to_binary(Glob);
as_text(_Key, Value) -> Value.

%% That of the clients of OTP.
default_port() ->
    case string:to_integer(os:getenv("ERL_EPMD_PORT", "")) of
        {Port, ""} when Port >= 1, Port =< 65535 -> Port;
        _ -> 4369
    end.

bad_remote(host, Host) when Host =/= undefined, Host =/= "", Host =/= <<>>,
        (is_atom(Host) orelse is_list(Host) orelse is_binary(Host)) -> [];
bad_remote(host, Host) when tuple_size(Host) =:= 4; tuple_size(Host) =:= 8 -> [];
bad_remote(host, Host) -> wrong(host, Host, <<"the name or the address of a host">>);
bad_remote(port, Port) -> positive(port, Port, 65535);
bad_remote(timeout, Timeout) -> positive(timeout, Timeout, 16#7fffffff);
bad_remote(Key, Value) -> wrong(Key, Value, <<"one of host, port, timeout">>).

bad_watch(glob, Glob) ->
    case is_binary(Glob) andalso portmapper_glob:compile(Glob) of
        {ok, _} -> [];
        _ -> wrong(glob, Glob, <<"a pattern of 1 to 255 characters">>)
    end;
bad_watch(Key, Value) when Key =:= host; Key =:= port; Key =:= timeout ->
    bad_remote(Key, Value);
bad_watch(Key, Value) ->
    wrong(Key, Value, <<"one of host, port, timeout, glob">>).

bad_discovery(name, Name) when is_atom(Name), Name =/= undefined -> [];
bad_discovery(name, Name) -> wrong(name, Name, <<"an atom">>);
bad_discovery(hosts, [First | _] = Hosts) when not is_integer(First), length(Hosts) > 0 ->
    lists:append([bad_source(Host) || Host <- Hosts]);
bad_discovery(hosts, []) -> [];
bad_discovery(hosts, Hosts) -> wrong(hosts, Hosts, <<"a list of hosts">>);
bad_discovery(interval, Interval) -> positive(interval, Interval, 16#7fffffff);
bad_discovery(max_names, Count) -> positive(max_names, Count, 1_000_000);
bad_discovery(Key, Fun) when Key =:= node_host; Key =:= connect ->
    case is_function(Fun, 1) of
        true -> [];
        false -> wrong(Key, Fun, <<"a function of one argument">>)
    end;
bad_discovery(Key, Value) when Key =:= glob; Key =:= port; Key =:= timeout ->
    bad_watch(Key, Value);
bad_discovery(Key, Value) ->
    Keys = <<"one of name, glob, hosts, port, interval, timeout, max_names, node_host, connect">>,
    wrong(Key, Value, Keys).

bad_source({dns, Name}) when not is_tuple(Name) -> bad_remote(host, Name);
bad_source(Host) -> bad_remote(host, Host).

%% The options with what is left out, unless one is wrong.
checked(Defaults, Options, Bad) ->
    case [Error || {Key, Value} <- maps:to_list(Options), Error <- Bad(Key, Value)] of
        [] -> {ok, maps:merge(Defaults, Options)};
        [Error | _] -> {error, {bad_option, Error}}
    end.

positive(_Key, Value, Max) when is_integer(Value), Value >= 1, Value =< Max -> [];
positive(Key, Value, Max) ->
    wrong(Key, Value, <<"an integer from 1 to ", (integer_to_binary(Max))/binary>>).

integer(_Key, Value, Max) when is_integer(Value), Value >= 0, Value =< Max -> [];
integer(Key, Value, Max) ->
    wrong(Key, Value, <<"an integer from 0 to ", (integer_to_binary(Max))/binary>>).

wrong(Key, Value, Expected) ->
    [#{key => Key, value => Value, expected => Expected}].
