%% @doc Options of calls, checked and completed.
-module(portmapper_options).

-export([lookup/1, registration/2]).
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

%% The options with what is left out, unless one is wrong.
checked(Defaults, Options, Bad) ->
    case [Error || {Key, Value} <- maps:to_list(Options), Error <- Bad(Key, Value)] of
        [] -> {ok, maps:merge(Defaults, Options)};
        [Error | _] -> {error, {bad_option, Error}}
    end.

integer(_Key, Value, Max) when is_integer(Value), Value >= 0, Value =< Max -> [];
integer(Key, Value, Max) ->
    wrong(Key, Value, <<"an integer from 0 to ", (integer_to_binary(Max))/binary>>).

wrong(Key, Value, Expected) ->
    [#{key => Key, value => Value, expected => Expected}].
