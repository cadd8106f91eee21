%% @doc The configuration: application environment, else `epmd''s environment
%% variables, else the defaults. The server checks it as one map.
-module(portmapper_config).

-export([with_checked/1, change/2, current/1]).

-type error() :: {bad_config, #{key := term(), value := term(), expected := binary()}}.
-export_type([error/0]).

%% @doc Reads the configuration and passes it on to be checked and used.
-spec with_checked(fun((portmapper_nif:config()) -> {ok, Value} | {error, term()})) ->
    {ok, Value} | {error, term()}.
with_checked(Use) ->
    Application = maps:from_list(application:get_all_env(portmapper)),
    Own = maps:remove(included_applications, Application),
    case from_os_env() of
        {ok, System} ->
            Given = maps:merge(System, Own),
            case Use(to_native(Given)) of
                {error, Reason} -> {error, name_source(Reason, Given, Own)};
                Ok -> Ok
            end;
        {error, _} = Error ->
            Error
    end.

%% @doc Changes some keys of a running server.
-spec change(portmapper_nif:server(), map()) -> ok | {error, term()}.
change(Server, Changes) ->
    Config = maps:merge(portmapper_nif:config(Server), to_native(Changes)),
    case portmapper_nif:reconfigure(Server, Config) of
        {ok, {}} ->
            portmapper_log:set_level(Config);
        {error, Reason} ->
            {error, name_source(Reason, Changes, Changes)}
    end.

%% @doc The configuration in force.
-spec current(portmapper_nif:server()) -> portmapper:config().
current(Server) ->
    maps:map(fun from_native/2, portmapper_nif:config(Server)).

%% The variables of C epmd.
-spec from_os_env() -> {ok, map()} | {error, error()}.
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
    Rest = maps:merge(Addresses, maps:from_list(Relaxed)),
    case os:getenv("ERL_EPMD_PORT", "") of
        "" ->
            {ok, Rest};
        Text ->
            case string:to_integer(string:trim(Text)) of
                {Port, ""} ->
                    {ok, Rest#{port => Port}};
                _ ->
                    Expected = <<"an integer from 0 to 65535">>,
                    Details = #{key => 'ERL_EPMD_PORT', value => Text, expected => Expected},
                    {error, {bad_config, Details}}
            end
    end.

%% Errors show what was given, under the name by which it was given.
name_source({bad_config, #{key := Key} = Details}, Given, Own) ->
    Named =
        case is_map_key(Key, Own) of
            true -> Key;
            false -> maps:get(Key, variables(), Key)
        end,
    {bad_config, Details#{key := Named, value := maps:get(Key, Given, undefined)}};
name_source(Reason, _Given, _Own) ->
    Reason.

variables() ->
    #{port => 'ERL_EPMD_PORT', addresses => 'ERL_EPMD_ADDRESS'}.

%% The server takes addresses as text.
to_native(Config) ->
    maps:map(
        fun
            (addresses, List) when is_list(List) -> [address_text(Each) || Each <- List];
            (_Key, Value) -> Value
        end,
        Config
    ).

address_text(Address) when is_tuple(Address) ->
    case inet:ntoa(Address) of
        {error, einval} -> Address;
        Text -> list_to_binary(Text)
    end;
address_text(Address) ->
    try
        iolist_to_binary(Address)
    catch
        error:badarg -> Address
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
