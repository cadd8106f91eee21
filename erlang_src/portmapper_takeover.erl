%% @doc Starts the application so that it takes over from another port mapper.
-module(portmapper_takeover).

-export([start/1]).

%% @doc See {@link portmapper:takeover/1}.
-spec start(portmapper:config()) -> ok | {error, term()}.
start(Config) ->
    _ = application:load(portmapper),
    Keys = Config#{takeover => true},
    Before = [{Key, application:get_env(portmapper, Key)} || Key <- maps:keys(Keys)],
    ok = application:set_env([{portmapper, maps:to_list(Keys)}]),
    case application:start(portmapper) of
        ok ->
            ok;
        {error, Reason} ->
            ok = lists:foreach(fun reset/1, Before),
            {error, cause(Reason)}
    end.

reset({Key, undefined}) -> application:unset_env(portmapper, Key);
reset({Key, {ok, Value}}) -> application:set_env(portmapper, Key, Value).

cause({Reason, {portmapper_app, start, _Arguments}}) -> Reason;
cause(Reason) -> Reason.
